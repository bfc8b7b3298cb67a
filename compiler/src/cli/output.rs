//! Files that appear whole or not at all: each is written beside its place under a temporary name, and only when all of them are
//! complete are they renamed. Where one of them cannot be, those that were become what they were before.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::{NamedTempFile, TempDir, TempPath};

use super::Failure;
use super::console::file_error;

/// The temporary files and folders that there are, for [`clean_up`]. Whoever holds the lock creates or renames.
static STAGED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file that is complete but for its name, and the name.
type Staged<'a> = (NamedTempFile, &'a Path);

/// Writes every file of `files`; nothing changes unless all could be written.
pub(super) fn write_all(files: &[(PathBuf, Vec<u8>)]) -> Result<(), Failure> {
    let mut staged: Vec<Staged<'_>> = Vec::new();
    let written = files.iter().try_for_each(|(path, bytes)| {
        staged.push((stage(path, bytes).map_err(|e| Failure::job(file_error("write", path, e)))?, path));
        Ok(())
    });
    // An interruption waits for this lock: all files are renamed or none.
    let mut open = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
    let done = match written {
        Ok(()) => rename_all(staged).map_err(|(path, e)| Failure::job(file_error("write", path, e))),
        Err(e) => {
            drop(staged);
            Err(e)
        }
    };
    open.clear();
    done
}

/// Gives every file its name. If one cannot get it, those that had theirs go, and what stood there comes back.
fn rename_all(staged: Vec<Staged<'_>>) -> Result<(), (&Path, std::io::Error)> {
    let last = staged.len().saturating_sub(1);
    let mut renamed: Vec<(&Path, Option<TempPath>)> = Vec::new();
    for (i, (file, path)) in staged.into_iter().enumerate() {
        // Behind the last there is nothing that could fail.
        let kept = if i < last { keep(path) } else { Ok(None) };
        let failed = match kept {
            Ok(kept) => match file.persist(path) {
                Ok(_) => {
                    renamed.push((path, kept));
                    continue;
                }
                Err(e) => {
                    // Not if it stands there still, under both names.
                    if let Some(kept) = kept.filter(|_| path.symlink_metadata().is_err()) {
                        let _ = kept.persist(path);
                    }
                    e.error
                }
            },
            Err(e) => e,
        };
        for (path, kept) in renamed.into_iter().rev() {
            // There is nothing better to do where this fails too.
            let _ = match kept {
                Some(kept) => kept.persist(path).map_err(|e| e.error),
                None => std::fs::remove_file(path),
            };
        }
        return Err((path, failed));
    }
    Ok(())
}

/// Gives what stands at `path` a second name beside it, which goes when it is dropped; none if nothing stands there.
fn keep(path: &Path) -> std::io::Result<Option<TempPath>> {
    match path.symlink_metadata() {
        Err(_) => return Ok(None),
        Ok(about) if about.is_dir() => return Err(std::io::Error::other("it is a directory")),
        Ok(_) => {}
    }
    let second = tempfile::Builder::new().prefix(".mnc-").make_in(folder_of(path), |second| {
        std::fs::hard_link(path, second).or_else(|e| match e.kind() {
            // Another name is tried.
            std::io::ErrorKind::AlreadyExists => Err(e),
            // Not every file system has second names.
            _ => std::fs::rename(path, second),
        })
    })?;
    Ok(Some(second.into_temp_path()))
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."))
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
        let file = builder.tempfile_in(folder_of(path))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let all = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut all: Vec<String> = all.collect();
        all.sort();
        all
    }

    /// The third of four files cannot be renamed, as a folder has come to stand in its place.
    #[test]
    fn what_cannot_be_renamed_leaves_nothing_half_done() {
        let dir = TempDir::new().unwrap();
        let paths = ["new", "old", "folder", "behind"].map(|name| dir.path().join(name));
        std::fs::write(&paths[1], "before").unwrap();
        let stage_all = || paths.iter().map(|p| (stage(p, b"after").unwrap(), p.as_path())).collect::<Vec<Staged<'_>>>();

        let staged = stage_all();
        std::fs::create_dir_all(paths[2].join("full")).unwrap();
        let (at, _) = rename_all(staged).unwrap_err();
        assert_eq!(at, paths[2]);
        assert_eq!(names(dir.path()), ["folder", "old"]);
        assert_eq!(std::fs::read(&paths[1]).unwrap(), b"before");

        // The last of all is not kept, but what it stands in the way of is.
        let staged: Vec<Staged<'_>> = [&paths[0], &paths[1]].map(|p| (stage(p, b"after").unwrap(), p.as_path())).into();
        std::fs::remove_file(&paths[1]).unwrap();
        std::fs::create_dir(&paths[1]).unwrap();
        assert_eq!(rename_all(staged).unwrap_err().0, paths[1]);
        assert_eq!(names(dir.path()), ["folder", "old"]);

        std::fs::remove_dir_all(&paths[2]).unwrap();
        std::fs::remove_dir(&paths[1]).unwrap();
        std::fs::write(&paths[1], "before").unwrap();
        rename_all(stage_all()).unwrap();
        assert_eq!(names(dir.path()), ["behind", "folder", "new", "old"]);
        assert!(paths.iter().all(|p| std::fs::read(p).unwrap() == b"after"));
    }
}
