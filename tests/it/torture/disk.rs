//! No room, or nothing that may be written: one clear line, status 2, and all that was acknowledged is there.

use std::fs;

use super::rounds;
use crate::producer::Dice;
use crate::workdir::{Done, Workdir, left_out};

/// Runs a script that may mount what it likes: it is gone when the script ends. `None` where that is not permitted.
fn mounting(wd: &Workdir, script: &str) -> Option<Done> {
    let permitted = wd.sh("unshare -rm mount -t tmpfs -o size=1m none . 2>&1").done();
    if permitted.status != 0 {
        left_out(&format!("full disks: nothing can be mounted here: {}", permitted.text().trim()));
        return None;
    }
    Some(wd.run("unshare").args(["-rm", "sh", "-euc", script]).done())
}

/// An error is one line of the program's own, and at most one to try.
#[track_caller]
fn one_clear_line(wd: &Workdir, file: &str, part: &str) {
    let text = wd.read(file);
    let lines: Vec<&str> = text.lines().collect();
    let shape = matches!(lines[..], [_] | [_, _]) && lines[1..].iter().all(|line| line.starts_with("try: "));
    assert!(shape && lines[0].contains(part), "{file}: {text}");
}

/// The disk becomes full wherever it likes; when there is room again everything goes on, and what one producer's runs
/// stored is there once.
#[test]
fn a_full_disk() {
    let mut dice = Dice::new(61);
    rounds("full disk", 25, |round| {
        let wd = Workdir::new();
        // Full by the filler, at another place each time; some records are as large as what is left.
        let (filler, segment) = (1400 + dice.throw(300), ["8KiB", "64KiB", "1GiB"][round as usize % 3]);
        let sync = ["every", "4KiB,1ms", "8MiB,50ms"][dice.throw(3) as usize];
        let name = if round % 2 == 0 { "" } else { "--producer p" };
        let lines = 600 + dice.throw(8000);
        let script = format!(
            r"
            mkdir full; mount -t tmpfs -o size=2m none full
            seq -f '%06.0f some text that makes a line a little longer' 1 {lines} > input
            kshard create -q full/s --segment-size {segment}
            head -n 50 input | kput -q full/s {name}
            kget full/s --consumer c > consumed
            head -c {filler}k /dev/zero > full/filler
            status=0; kput -q full/s --ack --sync {sync} {name} < input > acks 2> err || status=$?
            # To the last byte.
            cat /dev/zero > full/rest 2> /dev/null || true
            again=0; echo more | kput -q full/s 2> err-again || again=$?
            kget full/s > got
            kget full/s --durable > durable
            kshard check -q full/s
            consumer=0; kget full/s --consumer c >> consumed 2> err-consumer || consumer=$?
            command=0; kget full/s --consumer c --exec 'cat >> consumed' 2> err-exec || command=$?
            split=0; kshard split full/s 0 > /dev/null 2> err-split || split=$?
            kget full/s > after
            rm full/filler full/rest
            kshard check -q full/s
            kput -q full/s {name} < input
            kget full/s > finally
            kget full/s --consumer c >> consumed
            kshard trim full/s; kshard check -q full/s
            echo $status $again $consumer $command $split
            "
        );
        let Some(done) = mounting(&wd, &script) else { return };
        let done = done.expect_status(0).expect_stderr("");
        let statuses: Vec<&str> = done.lines().last().expect("statuses").split(' ').collect();
        let what = format!("round {round}: {filler}k, {segment}, {sync}, {name}: {statuses:?}");
        let files = ["err", "err-again", "err-consumer", "err-exec", "err-split"];
        for (status, file) in statuses.iter().zip(files) {
            match *status {
                "0" => assert_eq!(wd.read(file), "", "{what}: {file}"),
                "2" => one_clear_line(&wd, file, if file == "err-exec" { "" } else { "full" }),
                _ => panic!("{what}: {}", wd.read(file)),
            }
        }
        let (input, got) = (wd.read("input"), wd.read("got"));
        // The first fifty were put before; only with a name are they known.
        let first: Vec<&str> = input.lines().take(50).collect();
        let mut expected = if name.is_empty() { first.clone() } else { Vec::new() };
        expected.extend(input.lines());
        let got: Vec<&str> = got.lines().filter(|line| *line != "more").collect();
        assert!(expected.starts_with(&got), "{what}: not a prefix of what was written");
        let acks = fs::read_to_string(wd.join("acks")).expect("acks").lines().count();
        assert!(got.len() >= 50 + acks, "{what}: {acks} acknowledged, {} there", got.len());
        assert_eq!(wd.read("durable"), wd.read("got"), "{what}");
        assert_eq!(wd.read("after"), wd.read("got"), "{what}: nothing that failed changed anything");
        let lines_of = |file: &str| {
            let text = wd.read(file);
            let mut lines: Vec<String> =
                text.lines().filter(|line| *line != "more").map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        let finally = lines_of("finally");
        if name.is_empty() {
            assert_eq!(finally.len(), got.len() + input.lines().count(), "{what}");
        } else {
            assert!(input.lines().eq(finally.iter().map(String::as_str)), "{what}: each once");
        }
        // At least once: what could not be written down comes again.
        let mut consumed = lines_of("consumed");
        assert!(consumed.len() >= finally.len(), "{what}");
        consumed.dedup();
        let mut once = finally;
        once.dedup();
        assert!(consumed == once, "{what}: a consumer lacks records");
    });
}

/// Who only looks needs to write nothing, and whoever would write says so.
#[test]
fn what_may_not_be_written_is_read() {
    let wd = Workdir::new();
    let script = r#"
        mkdir ro; mount -t tmpfs -o size=4m none ro
        kshard create -q ro/s --shards 2 --segment-size 4KiB
        seq 1000 | kput -q ro/s
        kget -q ro/s --consumer c -n 10 > /dev/null
        kshard split ro/s 0 > /dev/null
        mount -o remount,ro ro
        look() { echo "$ $*" >> looked; "$@" >> looked; }
        look kget ro/s
        look kget ro/s --order arrival -o json
        look kget ro/s --durable
        look kget ro/s -f --from trim-horizon -n 1000
        look kshard describe ro/s
        look kshard list ro/s
        look kshard stats ro/s
        look kshard map ro/s
        look kshard advise ro/s
        look kshard check ro/s
        look kshard consumers ro/s
        look kshard consumers ro/s c --why
        look kshard retention ro/s
        look kshard dump -q ro/s
        refused() {
            n=$((${n:-0} + 1)); status=0; echo x | "$@" > out 2> err-$n || status=$?
            test $status = 2 || { echo "$*: $status" >&2; exit 1; }
            ! test -s out
        }
        refused kput ro/s
        refused kput ro/s --producer p
        refused kput --create ro/t
        refused kget ro/s --consumer c
        refused kget ro/s --consumer new
        refused kshard split ro/s 1
        refused kshard trim ro/s
        refused kshard create ro/t
        refused kshard delete ro/s
        refused kshard consumers ro/s c --reset latest
        refused kshard consumers ro/s c --delete
        kget ro/s | wc -l
        "#;
    let Some(done) = mounting(&wd, script) else { return };
    drop(done.expect_stderr("").expect_stdout("1000\n").expect_status(0));
    for n in 1..=11 {
        one_clear_line(&wd, &format!("err-{n}"), "Read-only file system");
    }
}

/// The same where the directory belongs to somebody else.
#[test]
fn what_belongs_to_somebody_else_is_read() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s; seq 100 | kput -q s; kget s --consumer c -n 5 > /dev/null").ok();
    let is_root = wd.sh("id -u").ok().text() == "0\n";
    wd.sh("chmod -R a+rX,a-w . && chmod a+rx .").ok();
    // Root may write everything, so somebody else is to try.
    let nobody = if is_root { "setpriv --reuid 65534 --regid 65534 --clear-groups " } else { "" };
    if wd.sh(&format!("{nobody}kget s")).done().status != 0 && is_root {
        left_out("reading what belongs to somebody else: root cannot be somebody else here");
        return;
    }
    wd.sh(&format!("{nobody}kget s | wc -l")).expect_stdout("100\n");
    wd.sh(&format!("{nobody}kget s --durable | wc -l")).expect_stdout("100\n");
    wd.sh(&format!("{nobody}kshard check -q s; {nobody}kshard consumers s > /dev/null")).ok();
    for command in ["kput s", "kget s --consumer c", "kshard split s 0", "kput --create t"] {
        let refused = wd.sh(&format!("echo x | exec {nobody}{command}")).fails();
        assert!(refused.stderr.contains("ermission denied"), "$ {command}\n{}", refused.stderr);
    }
    wd.sh("chmod -R u+w . && kget s | wc -l").expect_stdout("100\n");
}
