//! What followed files are called: their paths, and the producer that stands for all of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use xxhash_rust::xxh3::xxh3_64;

use super::super::run::Run;
use super::table::Table;
use crate::cli::report::HintExt as _;
use crate::cli::value::NAME_CHARS_MAX;

/// How the names begin that are told by the files.
const DERIVED: &str = "follow-";

/// The path with its directory resolved; the file itself may be missing, or a link that will be switched.
pub(super) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    if path == Path::new("-") {
        return Err(anyhow!("standard input cannot be followed"))
            .hint("kput without -f: it reads until the end");
    }
    let Some(name) = path.file_name() else { bail!("{} is not a file", path.display()) };
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        bail!("{} is not a regular file, and only such can be followed", path.display());
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = dir
        .canonicalize()
        .or_else(|_| std::path::absolute(dir))
        .with_context(|| format!("cannot follow {}", path.display()))?;
    Ok(dir.join(name))
}

/// How a mark names a path.
pub(super) fn path_id(path: &Path) -> u32 {
    xxh3_64(path.as_os_str().as_encoded_bytes()) as u32
}

/// The producer's name where none was given. It is told by the files, so that the same command goes on where it was;
/// and where there were fewer files it still goes on, under the name of those. Any other change would store again what
/// is stored, and is refused.
pub(super) fn name_of(run: &mut Run, paths: &[PathBuf]) -> anyhow::Result<String> {
    let name = derived_name(paths);
    let places = run.producer.places().with_context(|| run.context.clone())?;
    let known = |name: &String| places.get(name).is_some_and(|(_, mark)| !mark.is_empty());
    if known(&name) {
        return Ok(name);
    }
    let ids: Vec<u32> = paths.iter().map(|path| path_id(path)).collect();
    let others: Vec<(&String, Table)> = places
        .iter()
        .filter(|(other, _)| other.starts_with(DERIVED))
        .filter_map(|(other, (_, mark))| Some((other, Table::parse(mark)?)))
        .filter(|(_, table)| table.entries.values().any(|entry| ids.contains(&entry.path)))
        .collect();
    match &others[..] {
        [] => Ok(name),
        [(other, table)] if table.entries.values().all(|entry| ids.contains(&entry.path)) => {
            Ok((*other).clone())
        }
        [(other, _), ..] => Err(anyhow!(
            "some of these files were followed together with others, by producer `{other}`, and would be stored again"
        ))
        .with_hint(|| format!("the files of that run, or, if no other kput follows them, --producer {other}")),
    }
}

/// A producer's name for these files, whatever their order.
fn derived_name(paths: &[PathBuf]) -> String {
    let mut sorted: Vec<&PathBuf> = paths.iter().collect();
    sorted.sort_unstable();
    let all: Vec<u8> =
        sorted.iter().flat_map(|p| [p.as_os_str().as_encoded_bytes(), b"\0"].concat()).collect();
    let base = sorted.first().and_then(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned());
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let base: String = base.unwrap_or_default().chars().filter(plain).take(NAME_CHARS_MAX - 32).collect();
    format!("{DERIVED}{base}-{:016x}", xxh3_64(&all))
}
