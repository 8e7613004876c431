//! What is damaged is named, and what is good is read: what kget makes of streams that `kshard check` finds wrong.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::rounds;
use crate::producer::Dice;
use crate::workdir::Workdir;

const SHARD: &str = "shardId-000000000000";
const LINES: u64 = 900;

/// A stream of one shard with segments of about a page, and what is in it.
fn stream(wd: &Workdir, name: &str) -> Vec<String> {
    wd.run("kshard").args(["create", "-q", name, "--segment-size", "4KiB"]).ok();
    let lines: Vec<String> =
        (0..LINES).map(|i| format!("{name} {i:04} {}", "x".repeat(i as usize % 60))).collect();
    for part in lines.chunks(30) {
        wd.run("kput").args(["-q", name]).stdin(part.join("\n") + "\n").ok();
    }
    lines
}

fn segments(stream: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(stream.join(SHARD)).expect("a shard");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

/// kget names the damage and ends, or names it and goes on with everything good behind it; a consumer passes it once.
fn told_and_passed_over(wd: &Workdir, all: &[String], most_lost: usize, what: &str) {
    let part = |text: &str| -> usize {
        let got: Vec<&str> = text.lines().collect();
        let mut rest = all.iter();
        assert!(
            got.iter().all(|line| rest.any(|other| other == line)),
            "{what}: not what was written: {text}"
        );
        got.len()
    };
    let failed = wd.sh("kget s > failed").done().expect_status(2);
    let lines: Vec<&str> = failed.stderr.lines().collect();
    assert!(matches!(lines[..], [_, _]), "{what}: {}", failed.stderr);
    assert!(lines[0].starts_with("kget: ") && lines[0].contains(SHARD), "{what}: {}", failed.stderr);
    assert_eq!(lines[1], "try: kget s --on-error skip", "{what}");
    let before = part(&wd.read("failed"));
    assert!(
        all.iter().map(String::as_str).take(before).eq(wd.read("failed").lines()),
        "{what}: all before it"
    );

    let skipped = wd.sh("kget s --on-error skip > skipped").done().expect_status(1);
    assert!(!skipped.stderr.contains("try:"), "{what}: {}", skipped.stderr);
    let text = wd.read("skipped");
    let left = part(&text);
    assert!(left >= all.len() - most_lost, "{what}: {left} of {} are left\n{}", all.len(), skipped.stderr);
    assert_eq!(text.lines().last(), all.last().map(String::as_str), "{what}: the end is read");
    // As many as the check finds.
    let json = wd.run("kshard").args(["check", "s", "-o", "json"]).done().expect_status(1);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["Records"].as_u64(), Some(left as u64), "{what}: kget and check agree");

    wd.sh("kget s --on-error reject=kept > rejected").done().expect_status(1);
    assert_eq!(wd.read("rejected"), text, "{what}");
    wd.sh("kget s --consumer c --on-error skip > consumed").done().expect_status(1);
    assert_eq!(wd.read("consumed"), text, "{what}");
    wd.sh("kget s --consumer c").ok().expect_stdout("").expect_stderr("");
    // From behind the damage nobody hears of it.
    wd.sh("kget s --from latest").ok().expect_stderr("");
    let mut follower = wd.sh("exec kget s -f --from trim-horizon").spawn();
    let followed = follower.read_until(&format!("{}\n", all[all.len() - 1]));
    assert_eq!(followed, text, "{what}: a follower goes on too");
    follower.signal("TERM");
    drop(follower.wait().expect_status(143));
    // And it is written on.
    wd.run("kput").args(["-q", "s"]).stdin("more\n").ok();
    let after = wd.sh("kget s --on-error skip").done().expect_status(1);
    assert_eq!(after.text(), text + "more\n", "{what}");
}

/// Damage of every kind at places that differ from round to round.
#[test]
fn damage_is_named_by_kget_and_passed_over_if_asked() {
    let source = Workdir::new();
    let all = stream(&source, "s");
    stream(&source, "t");
    let count = segments(&source.join("s")).len();
    assert!(count > 6);
    let mut dice = Dice::new(71);
    rounds("damage", 24, |round| {
        let wd = Workdir::new();
        source.sh(&format!("cp -r s t {}", wd.path().display())).ok();
        let (of_s, of_t) = (segments(&wd.join("s")), segments(&wd.join("t")));
        // Not the last one, of which the end may be a torn tail.
        let at = dice.throw(count as u64 - 1) as usize;
        let (path, len) = (&of_s[at], fs::metadata(&of_s[at]).expect("a segment").len());
        let offset = dice.throw(len);
        let file = fs::File::options().read(true).write(true).open(path).expect("a segment");
        let what = match round % 5 {
            0 => {
                fs::copy(&of_t[at.min(of_t.len() - 1)], path).expect("copied");
                "a segment of another stream"
            }
            1 => {
                fs::copy(&of_s[(at + 1) % count], path).expect("copied");
                "another segment of the same stream"
            }
            2 => {
                file.set_len(offset).expect("cut");
                "a truncated segment"
            }
            3 => {
                let page = vec![0; 1024.min(len - offset) as usize];
                file.write_all_at(&page, offset).expect("written");
                "a zeroed page"
            }
            _ => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, offset).expect("read");
                // A higher layout version is a later program's.
                if (8..10).contains(&offset) {
                    return;
                }
                byte[0] ^= 1 << dice.throw(8);
                file.write_all_at(&byte, offset).expect("written");
                "a flipped bit"
            }
        };
        let mut indexes = 0;
        if round % 2 == 0 {
            indexes = wd.sh("find s -name '*.idx' -delete -print").ok().lines().len();
        }
        let what =
            format!("round {round}: {what}, segment {at}, byte {offset} of {len}, {indexes} indexes gone");
        told_and_passed_over(&wd, &all, 200, &what);
    });
}

/// Nothing that is derived is needed.
#[test]
fn without_index_files_everything_is_read() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --segment-size 1MiB; seq -f '%08.0f with some text behind it' 1 60000 | kput -q s").ok();
    let time = wd.sh("sleep 0.01; date +%s.%N").ok().text().trim().to_owned();
    wd.sh("seq 5 | kput -q s; kget s --template '{seq}\\n' > sequences").ok();
    let middle = wd.sh("sed -n 40000p sequences").ok().text().trim().to_owned();
    let questions = [
        "kget s".to_owned(),
        format!("kget s --from {time}"),
        format!("kget s --from at:{middle} -n 3"),
        format!("kget s --from after:{middle} | wc -l"),
        "kget s --order arrival".to_owned(),
        "kshard stats s -o json | jq .Shards[0].Records 2> /dev/null || true".to_owned(),
    ];
    let ask = || questions.iter().map(|question| wd.sh(question).ok().stdout).collect::<Vec<_>>();
    let before = ask();
    assert_eq!(before[1], b"1\n2\n3\n4\n5\n");
    let gone = wd.sh("find s -name '*.idx' -delete -print").ok().lines().len();
    assert!(gone > 0);
    assert!(ask() == before);
    wd.sh("for f in s/shard*/*.seg; do head -c 4096 /dev/urandom > ${f%.seg}.idx; done").ok();
    assert!(ask() == before, "nor does a wrong one mislead");
}
