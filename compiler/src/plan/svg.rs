//! The memory plan as a picture: time across, address up, one rectangle a buffer, the lower bound as a line.
//!
//! Plain SVG 1.1 with a style sheet, light and dark by the viewer's preference; everything that does not fit as text is a
//! tooltip. A strip at the bottom shows the bytes alive at each stage: where it touches the bound, the plan is full.

use std::fmt::Write;

use super::print::{kernel, proof, ring, size, split};
use super::{Buffer, BufferId, Kernel, Place, Plan, Port, Stage, Step};

/// Plot area in pixels.
const PLOT: (f64, f64) = (1120.0, 460.0);
/// Space left of, above and right of the plot.
const LEFT: f64 = 92.0;
const TOP: f64 = 96.0;
const RIGHT: f64 = 28.0;
/// Height of the strip of live bytes, and its distance from the plot.
const STRIP: f64 = 56.0;
const GAP: f64 = 14.0;
/// Most characters of a stage's name below the strip, and the size of their font.
const STEP: (usize, f64) = (24, 10.0);
/// Average width of a character, in font sizes; generous for a sans-serif font.
const CHAR: f64 = 0.56;
/// The same in bold.
const BOLD: f64 = 0.67;

const STYLE: &str = "
.bg{fill:#ffffff} text{font-family:system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#24292f}
.title{font-size:20px;font-weight:600} .sub{font-size:13px;fill:#57606a} .axis{font-size:11px;fill:#57606a}
.tick{stroke:#d0d7de;stroke-width:1} .frame{fill:none;stroke:#8c959f;stroke-width:1} .plot{fill:#f6f8fa}
.step{font-size:10px;fill:#57606a} .b{stroke:#ffffff;stroke-width:1} .name{fill:#ffffff;font-weight:600}
.size{fill:#ffffff} .bound{stroke:#cf222e;stroke-width:1.5;stroke-dasharray:7 4;fill:none}
.boundtext{font-size:12px;fill:#cf222e;font-weight:600} .live{fill:#8c959f;fill-opacity:.45} .hover{fill:#000000;fill-opacity:0}
.hover:hover{fill-opacity:.07} .pointwise{fill:#2f6fb7} .depthwise{fill:#b8620b} .conv{fill:#2c7d59} .other{fill:#6e5aa8}
@media (prefers-color-scheme:dark){
.bg{fill:#0d1117} text{fill:#e6edf3} .sub,.axis,.step{fill:#9198a1} .tick{stroke:#30363d} .frame{stroke:#656c76} .plot{fill:#151b23}
.b{stroke:#0d1117} .name,.size{fill:#ffffff} .bound{stroke:#ff7b72} .boundtext{fill:#ff7b72} .hover{fill:#ffffff}}
";

/// Draws the plan's arena. A whole SVG document.
#[must_use]
pub fn svg(plan: &Plan) -> String {
    let mut out = String::new();
    draw(plan, &mut out).expect("a String takes everything");
    out
}

/// From stages and bytes to pixels.
struct Scale {
    stages: usize,
    bytes: usize,
    /// Height of the stage names below the strip.
    names: f64,
}

impl Scale {
    fn x(&self, stage: usize) -> f64 {
        LEFT + PLOT.0 * stage as f64 / self.stages.max(1) as f64
    }

    fn y(&self, bytes: usize) -> f64 {
        TOP + PLOT.1 * (1.0 - bytes as f64 / self.bytes as f64)
    }
}

fn draw(plan: &Plan, out: &mut String) -> std::fmt::Result {
    let memory = &plan.memory;
    // A little air above, so that the bound's label has a place.
    let top = memory.arena_bytes.max(memory.lower_bound_bytes).max(1);
    let longest = plan.stages.iter().map(|s| s.name.chars().count()).max().unwrap_or(0).min(STEP.0);
    let names = longest as f64 * STEP.1 * CHAR + 40.0;
    let scale = Scale { stages: plan.stages.len(), bytes: top + top / 14, names };
    let (width, height) = (LEFT + PLOT.0 + RIGHT, TOP + PLOT.1 + GAP + STRIP + names);
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">"#
    )?;
    writeln!(out, "<title>Memory plan of {}</title>", escape(&plan.name))?;
    writeln!(out, "<style>{STYLE}</style>")?;
    writeln!(out, r#"<rect class="bg" width="{width}" height="{height}"/>"#)?;
    writeln!(out, r#"<text class="title" x="{LEFT}" y="34">{}: memory plan</text>"#, escape(&plan.name))?;
    writeln!(
        out,
        r#"<text class="sub" x="{LEFT}" y="56">arena {}, {}</text>"#,
        size(memory.arena_bytes),
        escape(&proof(memory))
    )?;
    writeln!(
        out,
        r#"<text class="sub" x="{LEFT}" y="75">{} buffers over {} stages; layer by layer at best {}; input {} and output {} are the caller's; weights {}</text>"#,
        memory.buffers.len(),
        scale.stages,
        size(memory.layerwise_bound_bytes),
        shapes(&plan.inputs),
        shapes(&plan.outputs),
        size(plan.weights.bytes())
    )?;
    legend(out)?;
    axes(&scale, out)?;
    for (id, buffer) in memory.buffers.iter().enumerate() {
        draw_buffer(plan, &scale, id, buffer, out)?;
    }
    writeln!(out, r#"<rect class="frame" x="{LEFT}" y="{TOP}" width="{}" height="{}"/>"#, PLOT.0, PLOT.1)?;
    let y = scale.y(memory.lower_bound_bytes);
    writeln!(out, r#"<path class="bound" d="M{LEFT} {y:.1}H{:.1}"/>"#, LEFT + PLOT.0)?;
    writeln!(
        out,
        r#"<text class="boundtext" x="{:.1}" y="{:.1}" text-anchor="end">lower bound {} (most bytes alive at one stage)</text>"#,
        LEFT + PLOT.0 - 6.0,
        y - 7.0,
        size(memory.lower_bound_bytes)
    )?;
    stages(plan, &scale, out)?;
    writeln!(out, "</svg>")
}

/// `1x224x224x3`, or several joined by commas.
fn shapes(ports: &[Port]) -> String {
    ports.iter().map(|p| p.tensor.shape.to_string()).collect::<Vec<_>>().join(", ")
}

/// What the colours mean, at the top right.
fn legend(out: &mut String) -> std::fmt::Result {
    let mut x = LEFT + PLOT.0;
    for (class, label) in [("other", "other"), ("conv", "conv"), ("depthwise", "depthwise"), ("pointwise", "pointwise")] {
        x -= label.len() as f64 * 12.0 * CHAR;
        writeln!(out, r#"<text class="sub" x="{x:.1}" y="34">{label}</text>"#)?;
        x -= 17.0;
        writeln!(out, r#"<rect class="{class}" x="{x:.1}" y="23" width="12" height="12" rx="2"/>"#)?;
        x -= 16.0;
    }
    writeln!(out, r#"<text class="sub" x="{:.1}" y="34" text-anchor="end">first written by</text>"#, x + 8.0)
}

/// Grid and numbers: addresses on the left, "time" below the strip.
fn axes(scale: &Scale, out: &mut String) -> std::fmt::Result {
    writeln!(out, r#"<rect class="plot" x="{LEFT}" y="{TOP}" width="{}" height="{}"/>"#, PLOT.0, PLOT.1)?;
    let (unit, name) = if scale.bytes >= 2 << 20 {
        (1 << 20, "MiB")
    } else if scale.bytes >= 2 << 10 {
        (1 << 10, "KiB")
    } else {
        (1, "B")
    };
    let step = tick(scale.bytes as f64 / f64::from(unit));
    let mut value = 0.0;
    while value * f64::from(unit) <= scale.bytes as f64 {
        let y = scale.y((value * f64::from(unit)) as usize);
        writeln!(out, r#"<path class="tick" d="M{:.1} {y:.1}H{:.1}"/>"#, LEFT - 5.0, LEFT + PLOT.0)?;
        writeln!(out, r#"<text class="axis" x="{:.1}" y="{:.1}" text-anchor="end">{value}</text>"#, LEFT - 9.0, y + 4.0)?;
        value += step;
    }
    let middle = TOP + PLOT.1 / 2.0;
    writeln!(
        out,
        r#"<text class="axis" x="44" y="{middle}" text-anchor="middle" transform="rotate(-90 44 {middle})">address ({name})</text>"#
    )
}

/// The distance of about six round ticks up to `most`.
fn tick(most: f64) -> f64 {
    let rough = most / 6.0;
    let magnitude = 10f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0].into_iter().find(|d| d * magnitude >= rough).unwrap_or(10.0);
    digit * magnitude
}

fn draw_buffer(plan: &Plan, scale: &Scale, id: usize, b: &Buffer, out: &mut String) -> std::fmt::Result {
    let (x, w) = (scale.x(b.first), scale.x(b.last + 1) - scale.x(b.first));
    let (y, h) = (scale.y(b.offset + b.bytes), scale.y(b.offset) - scale.y(b.offset + b.bytes));
    let writers: Vec<&Step> = plan.steps().filter(|s| stands_in(s.output, BufferId(id))).collect();
    let class = writers.first().map_or("other", |s| class(&s.kernel));
    let inside = size(b.bytes);
    write!(out, r#"<g><rect class="b {class}" x="{x:.1}" y="{y:.1}" width="{w:.1}" height="{h:.1}" rx="2"/>"#)?;
    let names: Vec<String> = writers.iter().map(|s| escape(&s.name)).collect();
    let rows = writers.first().and_then(|s| ring(s)).map_or_else(String::new, |ring| format!(", a ring of {ring}"));
    write!(
        out,
        "<title>b{id}: {}{rows}\n{} bytes ({inside}) at {}, alive in stages {} to {}</title>",
        names.join(", then "),
        b.bytes,
        b.offset,
        b.first,
        b.last
    )?;
    label(&b.name, &inside, (x, y, w, h), out)?;
    writeln!(out, "</g>")
}

/// Whether `place` is in `buffer`.
fn stands_in(place: Place, buffer: BufferId) -> bool {
    match place {
        Place::Arena(id) | Place::Ring { buffer: id, .. } => id == buffer,
        Place::Input(_) | Place::Output(_) => false,
    }
}

/// Name and size in a rectangle: along its longer side, the size below or beside the name or left out, in the largest font of
/// a few at which the name fits; in the smallest it is cut at the front, for the end of a name tells most.
fn label(name: &str, size: &str, (x, y, w, h): (f64, f64, f64, f64), out: &mut String) -> std::fmt::Result {
    let (along, across, turned) = if w >= h || w >= 90.0 { (w, h, false) } else { (h, w, true) };
    let room = |font: f64| ((along - 4.0) / (font * BOLD)) as usize;
    let length = name.chars().count();
    let font = [11.0, 10.0, 9.0].into_iter().find(|&f| room(f) >= length).unwrap_or(8.5);
    if across < font + 2.0 || room(font) < length.min(4) {
        return Ok(());
    }
    let (cx, cy) = (x + w / 2.0, y + h / 2.0);
    let turn = if turned { format!(r#" transform="rotate(-90 {cx:.1} {cy:.1})""#) } else { String::new() };
    write!(out, r#"<g text-anchor="middle"{turn}>"#)?;
    let mut line = |class: &str, font: f64, dy: f64, text: &str| {
        let (y, text) = (cy + dy, escape(text));
        write!(out, r#"<text class="{class}" font-size="{font}" x="{cx:.1}" y="{y:.1}">{text}</text>"#)
    };
    if across >= 2.0 * font + 6.0 && room(font - 0.5) >= size.len() {
        line("name", font, -2.0, &shorten(name, room(font)))?;
        line("size", font - 0.5, font, size)?;
    } else if room(font) >= length + size.len() + 3 {
        line("name", font, font * 0.36, &format!("{name}  {size}"))?;
    } else {
        line("name", font, font * 0.36, &shorten(name, room(font)))?;
    }
    write!(out, "</g>")
}

/// Live bytes, names, and a tooltip for each stage.
fn stages(plan: &Plan, scale: &Scale, out: &mut String) -> std::fmt::Result {
    let memory = &plan.memory;
    let (floor, base) = (TOP + PLOT.1 + GAP + STRIP, TOP + PLOT.1 + GAP);
    let high = |live: usize| STRIP * live as f64 / memory.lower_bound_bytes.max(1) as f64;
    let column = PLOT.0 / scale.stages.max(1) as f64;
    // One name in every so many columns, so that they do not run into one another.
    let every = (11.0 / column).ceil().max(1.0) as usize;
    writeln!(out, r#"<text class="axis" x="{:.1}" y="{:.1}" text-anchor="end">alive</text>"#, LEFT - 9.0, floor - 22.0)?;
    writeln!(out, r#"<path class="bound" d="M{LEFT} {base:.1}H{:.1}"/>"#, LEFT + PLOT.0)?;
    for (t, stage) in plan.stages.iter().enumerate() {
        let live: usize = memory.buffers.iter().filter(|b| b.first <= t && t <= b.last).map(|b| b.bytes).sum();
        let (x, h) = (scale.x(t), high(live));
        writeln!(
            out,
            r#"<rect class="live" x="{:.1}" y="{:.1}" width="{:.1}" height="{h:.1}"/>"#,
            x + 0.5,
            floor - h,
            (column - 1.0).max(0.5)
        )?;
        if t.is_multiple_of(every) {
            let (tx, ty) = (x + column / 2.0 + 3.5, floor + 8.0);
            writeln!(
                out,
                r#"<text class="step" x="{tx:.1}" y="{ty:.1}" text-anchor="end" transform="rotate(-90 {tx:.1} {ty:.1})">{}</text>"#,
                escape(&shorten(&stage.name, STEP.0))
            )?;
        }
        writeln!(
            out,
            r#"<rect class="hover" x="{x:.1}" y="{base:.1}" width="{column:.1}" height="{:.1}"><title>stage {t}: {}
{}
{} alive</title></rect>"#,
            STRIP + scale.names - 24.0,
            escape(&stage.name),
            describe(stage),
            size(live)
        )?;
    }
    writeln!(
        out,
        r#"<text class="axis" x="{:.1}" y="{:.1}" text-anchor="middle">time (stages, in order of execution)</text>"#,
        LEFT + PLOT.0 / 2.0,
        floor + scale.names - 10.0
    )
}

/// The steps of a stage, one a line, and how it is cut where it is.
fn describe(stage: &Stage) -> String {
    let step = |s: &Step| format!("{} {} to {}", kernel(&s.kernel), s.input_shape, s.output_shape);
    let mut lines: Vec<String> = stage.steps.iter().map(step).collect();
    if stage.steps.len() > 1 {
        lines.push(format!("in strips of {} rows, split: {}", stage.strip_rows, split(stage.split)));
    }
    lines.join("\n")
}

fn class(kernel: &Kernel) -> &'static str {
    match kernel {
        Kernel::Conv { .. } | Kernel::ConvTranspose { .. } => "conv",
        Kernel::Depthwise { .. } => "depthwise",
        Kernel::Pointwise { .. } => "pointwise",
        Kernel::Pool(_)
        | Kernel::GlobalPool { .. }
        | Kernel::Add { .. }
        | Kernel::Scale { .. }
        | Kernel::Act { .. }
        | Kernel::Softmax { .. }
        | Kernel::Normalize { .. }
        | Kernel::Pad { .. }
        | Kernel::PRelu { .. }
        | Kernel::Binary { .. }
        | Kernel::Concat { .. }
        | Kernel::Gather { .. }
        | Kernel::Transpose { .. }
        | Kernel::Mean { .. }
        | Kernel::Interpolate { .. }
        | Kernel::Copy { .. }
        | Kernel::Constant { .. } => "other",
    }
}

/// At most `room` characters, cut at the front.
fn shorten(name: &str, room: usize) -> String {
    let n = name.chars().count();
    if n <= room {
        return name.to_owned();
    }
    let rest: String = name.chars().skip(n + 1 - room.max(1)).collect();
    format!("…{}", rest.trim_start_matches('.'))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Control characters are not allowed in XML at all.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_shortened_in_whole_characters() {
        assert_eq!(escape("a<b> & \"c\"\n"), "a&lt;b&gt; &amp; &quot;c&quot; ");
        assert_eq!(shorten("block3.expand", 7), "…expand");
        assert_eq!(shorten("größe", 3), "…ße");
        assert_eq!(shorten("stem", 4), "stem");
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!((tick(6.1), tick(5.0), tick(0.9)), (2.0, 1.0, 0.2));
    }
}
