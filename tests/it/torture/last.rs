//! Damage in the last segment of streams that were left in order: all that was acknowledged lies below what the pause
//! at its end says is durable, so only the pause itself may pass for a torn tail.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::rounds;
use crate::producer::Dice;
use crate::workdir::Workdir;

const SEGMENT: &str = "s/shardId-000000000000/00000000000000000000.seg";
const HEADER_BYTES: u64 = 128;

/// Flips a bit, zeroes a page, or cuts the file, anywhere; says what and from which byte on.
fn spoil(path: &PathBuf, round: u64, dice: &mut Dice) -> Option<(String, u64)> {
    let len = fs::metadata(path).expect("a segment").len();
    let offset = dice.throw(len);
    // A higher layout version is a later program's.
    if (8..20).contains(&offset) {
        return None;
    }
    let file = fs::File::options().read(true).write(true).open(path).expect("a segment");
    let what = match round % 3 {
        0 => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).expect("read");
            byte[0] ^= 1 << dice.throw(8);
            file.write_all_at(&byte, offset).expect("written");
            "a flipped bit"
        }
        1 => {
            let page = vec![0; 512.min(len - offset) as usize];
            file.write_all_at(&page, offset).expect("written");
            "a zeroed page"
        }
        _ => {
            file.set_len(offset).expect("cut");
            "a cut"
        }
    };
    Some((format!("round {round}: {what} at byte {offset} of {len}"), offset))
}

/// One run of kput of a few thousand lines, and many short ones.
#[test]
fn damage_in_the_last_segment_is_named() {
    let line =
        |what: &str, run: usize, i: usize| format!("{what} {run:02} {i:05} {}\n", "x".repeat(i * 9 % 70));
    let lines =
        |what: &str, run: usize, count: usize| (0..count).map(|i| line(what, run, i)).collect::<Vec<_>>();
    let long = lines("long", 0, 4000).concat();
    let short: Vec<String> = (0..25).map(|run| lines("short", run, 8).concat()).collect();
    let sources: Vec<Workdir> = [vec![long], short]
        .into_iter()
        .map(|runs| {
            let wd = Workdir::new();
            wd.sh("kshard create -q s").ok();
            for run in &runs {
                wd.run("kput").args(["-q", "s"]).stdin(run).ok();
            }
            wd.write("all", runs.concat());
            wd
        })
        .collect();
    let mut dice = Dice::new(19);
    rounds("damage in the last segment", 36, |round| {
        let wd = Workdir::new();
        sources[(round % 2) as usize].sh(&format!("cp -r s all {}", wd.path().display())).ok();
        let path = wd.join(SEGMENT);
        let Some((what, offset)) = spoil(&path, round / 2, &mut dice) else { return };
        let all = wd.read("all");
        let failed = wd.sh("kget s --on-error fail > got").done();
        let got = wd.read("got");
        assert!(all.starts_with(&got), "{what}: all before it, and nothing else");
        let checked = wd.sh("kshard check -q s").done();
        match failed.status {
            // A torn tail, or nothing that a reader needs: what is gone was known to nobody to be durable.
            0 => {
                let lost = all.len() - got.len();
                assert!(
                    lost == 0 || checked.status == 1 || is_torn(&wd, offset),
                    "{what}: {lost} bytes are gone in silence"
                );
            }
            2 => {
                assert!(failed.stderr.contains("shardId-000000000000"), "{what}: {}", failed.stderr);
                assert_eq!(checked.status, 1, "{what}: {}", checked.stderr);
            }
            status => panic!("{what}: status {status}: {}", failed.stderr),
        }
        // What comes later is stored and read, unless the segment's own header is gone: then nothing is appended.
        let later = wd.sh("echo later | kput -q s").done();
        if later.status == 0 {
            let text = wd.sh("kget s --on-error skip || test $? = 1").ok().text().to_owned();
            assert!(text.ends_with("later\n"), "{what}: what was acknowledged later is not read");
        } else {
            assert!(later.stderr.contains("try: ") && offset < HEADER_BYTES, "{what}: {}", later.stderr);
        }
    });
}

/// Whether the file ends in front of all that could say that what is gone was durable.
fn is_torn(wd: &Workdir, offset: u64) -> bool {
    fs::metadata(wd.join(SEGMENT)).expect("a segment").len() == offset
}
