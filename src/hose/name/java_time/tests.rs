use std::collections::HashMap;

use super::*;
use crate::hose::name::Zone;

/// What Java 17 makes of patterns: see `JavaTime.java` beside it.
const GOLDEN: &str = include_str!("../../../../tests/data/hose/name/java-time.tsv");

fn text(pattern: &str, us: i64, zone: &Zone) -> Result<String, String> {
    let pattern = Pattern::parse(pattern).map_err(|error| error.to_string())?;
    let mut out = String::new();
    let moment = zone.moment(us).ok_or("a time out of range")?;
    pattern.write(&moment, &mut out).map_err(|error| error.to_string())?;
    Ok(out)
}

/// Compares a table with the code; answers the rows that differ, and how many were compared.
fn compare(table: &str) -> (Vec<String>, usize) {
    let mut zones: HashMap<String, Option<Zone>> = HashMap::new();
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for line in table.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        if let [pattern, "!"] = columns[..] {
            compared += 1;
            if Pattern::parse(pattern).is_ok() {
                wrong.push(format!("{pattern}: Java refuses it"));
            }
            continue;
        }
        let [pattern, us, zone, expected] = columns[..] else { panic!("{line}: not four columns") };
        // Where the system has no database, or one without this zone, its rows are left out.
        let zone = zones.entry(zone.to_owned()).or_insert_with(|| zone.parse().ok());
        let (Some(zone), Ok(us)) = (zone, us.parse()) else { continue };
        compared += 1;
        match text(pattern, us, zone) {
            Ok(text) if text == expected => {}
            // Java fails later, at the moments that do not fit.
            Err(reason) if reason.contains("more than the") => {}
            other => wrong.push(format!("{line}: {other:?}")),
        }
    }
    (wrong, compared)
}

#[test]
fn every_text_is_javas() {
    let (wrong, compared) = compare(GOLDEN);
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    // Zones of offsets alone are in more rows than this.
    assert!(compared > 400, "{compared}");
}

#[test]
fn more_texts_are_javas() {
    let Some(path) = std::env::var_os("KPIPE_JAVA_TIME") else { return };
    let table = std::fs::read_to_string(path).expect("the table can be read");
    let (wrong, compared) = compare(&table);
    let shown = &wrong[..wrong.len().min(50)];
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), shown.join("\n"));
}
