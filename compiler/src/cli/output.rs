//! Files that appear whole or not at all: each is written beside its place under a temporary name, and only when all of them are
//! complete are they renamed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::{NamedTempFile, TempDir};

use super::Failure;
use super::console::file_error;

/// The temporary files and folders that there are, for [`clean_up`]. Whoever holds the lock creates or renames.
static STAGED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Writes every file of `files`; nothing appears unless all could be written.
pub(super) fn write_all(files: &[(PathBuf, Vec<u8>)]) -> Result<(), Failure> {
    let mut staged = Vec::new();
    let written = files.iter().try_for_each(|(path, bytes)| {
        staged.push((stage(path, bytes).map_err(|e| Failure::job(file_error("write", path, e)))?, path));
        Ok(())
    });
    // An interruption waits for this lock: all files are renamed or none.
    let mut open = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
    let done = written.and_then(|()| {
        let mut rename = |(file, path): (NamedTempFile, &PathBuf)| {
            file.persist(path).map(|_| ()).map_err(|e| Failure::job(file_error("write", path, e.error)))
        };
        staged.drain(..).try_for_each(&mut rename)
    });
    drop(staged);
    open.clear();
    done
}

/// Takes away what is half written, for good: nothing is written after this.
#[cfg(unix)]
pub(super) fn clean_up() {
    let open = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
    for path in open.iter() {
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
    // The process is about to end; until then nobody else may write.
    std::mem::forget(open);
}

/// A folder for what a command needs while it runs, which goes with it.
pub(super) fn folder() -> std::io::Result<TempDir> {
    let mut open = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::Builder::new().prefix("mnc-").tempdir()?;
    open.push(folder.path().to_path_buf());
    Ok(folder)
}

fn stage(path: &Path, bytes: &[u8]) -> std::io::Result<NamedTempFile> {
    if path.is_dir() {
        return Err(std::io::Error::other("it is a directory"));
    }
    let folder = match path.parent() {
        Some(p) if p != Path::new("") => p,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mnc-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file: the umask still applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = {
        let mut open = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
        let file = builder.tempfile_in(folder)?;
        open.push(file.path().to_path_buf());
        file
    };
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// `12.3 kB`
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
