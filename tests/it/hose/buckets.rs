//! The same against servers that speak S3 and Azure, through a network that misbehaves.

use std::time::Duration;

use super::killed::{KINDS, POINTS, SMALL, killed_at, stream};
use super::lake::{Place, records};
use super::random::killed_at_random;
use crate::proxy::{Proxy, Trouble};
use crate::servers::{self, azure_variables};
use crate::workdir::Workdir;

/// An empty bucket of each kind that can be had here.
fn buckets() -> Vec<Place> {
    let s3 = servers::s3()
        .map(|s3| Place { url: format!("s3://{}/lake/", s3.bucket()), variables: s3.variables() });
    let azure = servers::azure().map(|azure| Place {
        url: format!("az://{}/lake/", azure.container()),
        variables: azure.variables(),
    });
    s3.into_iter().chain(azure).collect()
}

/// The same places behind proxies, with less patience than usual.
fn behind_proxies() -> Vec<(Place, Place, Proxy)> {
    let patient = |place: &Place, proxy: &Proxy| {
        let mut variables = place.variables.clone();
        if place.url.starts_with("s3") {
            variables.insert("AWS_ENDPOINT_URL".to_owned(), proxy.url());
            variables.insert("AWS_TIMEOUT".to_owned(), "700ms".to_owned());
        } else {
            variables.extend(azure_variables(&proxy.url()));
            variables.insert("AZURE_TIMEOUT".to_owned(), "700ms".to_owned());
        }
        Place { url: place.url.clone(), variables }
    };
    let server = |place: &Place| {
        let is_s3 = place.url.starts_with("s3");
        if is_s3 {
            servers::s3().expect("it is there").url.clone()
        } else {
            servers::azure().expect("too").url.clone()
        }
    };
    let with_proxy = |place: Place| {
        let proxy = Proxy::start(&server(&place));
        (patient(&place, &proxy), place, proxy)
    };
    buckets().into_iter().map(with_proxy).collect()
}

#[test]
fn a_run_to_a_bucket_killed_at_any_place_is_made_good_by_the_next() {
    let wd = Workdir::new();
    let input = stream(&wd, "s", 1200);
    for bucket in buckets() {
        for (n, point) in POINTS.iter().enumerate() {
            // Of the store in a directory.
            if matches!(*point, "store.put.written" | "store.put.named") {
                continue;
            }
            for (visit, kind) in [(1, n % 2), (3, 2 + n % 2)] {
                let (kind, options) = KINDS[kind];
                let name = format!("{kind}-{point}-{visit}");
                let place = bucket.below(&name);
                killed_at(&wd, &place, &format!("{options} {SMALL}"), &[format!("{point}:{visit}")]);
                let found = place.found();
                found.expect_once(&format!("{}: {name}", place.url), &input);
                found.expect_settled(&name);
            }
        }
    }
}

/// An object above 16 MiB is sent in parts.
#[test]
fn a_run_killed_among_the_parts_of_an_object() {
    let Some(s3) = servers::s3() else { return };
    let wd = Workdir::new();
    wd.sh("kput -q --create s").stdin(records(0, 40_000)).ok();
    let input = wd.sh("kget s").ok();
    let bucket = Place { url: format!("s3://{}/lake/", s3.bucket()), variables: s3.variables() };
    for death in ["store.multipart.begun:1", "store.multipart.part:2", "store.multipart.sent:1"] {
        let place = bucket.below(death.split(':').next().expect("a name"));
        let killed = killed_at(&wd, &place, "-o lines --prefix x/", &[death.to_owned()]);
        assert_eq!(killed, 1, "{death}");
        let found = place.found();
        assert_eq!(found.objects.len(), 1, "{death}");
        found.expect_once(death, input.text());
    }
}

#[test]
fn a_network_that_cuts_and_stands_still_loses_and_doubles_nothing() {
    let troubles = [
        Trouble::LoseAnswers(1),
        Trouble::LoseAnswers(4),
        Trouble::CutRequests { after: 9_000, times: 3 },
        Trouble::CutAnswers { after: 700, times: 3 },
        Trouble::Slow { bytes_per_second: 300_000 },
        Trouble::Refuse,
        Trouble::BlackHole,
    ];
    for (place, quiet, proxy) in behind_proxies() {
        let wd = Workdir::new();
        wd.sh("kshard create -q s --shards 2").ok();
        for (n, trouble) in troubles.into_iter().enumerate() {
            let from = 400 * n as u64;
            wd.sh("kput -q s --sync 2KiB,20ms").stdin(records(from, from + 400)).ok();
            let (_, options) = KINDS[n % 4];
            let delivery = place.khose(&wd, "s", &format!("{options} {SMALL}")).spawn();
            // Somewhere on the way.
            std::thread::sleep(Duration::from_millis(40 * n as u64));
            proxy.set(trouble);
            std::thread::sleep(Duration::from_millis(1200));
            proxy.set(Trouble::None);
            let done = delivery.wait();
            let what = format!("{}: {trouble:?}: {}", place.url, done.stderr);
            eprintln!("{trouble:?}: {}", done.status);
            // 2: what keeps the ledger was out of reach for too long.
            assert!(matches!(done.status, 0..=2), "{what}: {}", done.status);
            if done.status == 2 {
                let again = place.khose(&wd, "s", &format!("{options} {SMALL}")).done();
                assert!(matches!(again.status, 0 | 1), "{what}: {}: {}", again.status, again.stderr);
            }
            let found = quiet.found();
            found.expect_once(&what, wd.sh("kget s").ok().text());
            found.expect_settled(&what);
        }
    }
}

/// A destination that does not answer holds nobody up for long who is told to end; what was planned is done later.
#[test]
fn who_is_told_to_end_while_a_bucket_is_silent_ends() {
    for (place, quiet, proxy) in behind_proxies() {
        let wd = Workdir::new();
        wd.sh("kput -q --create s").stdin(records(0, 100)).ok();
        let follower = place.khose(&wd, "s", "-f --buffer-interval 100ms").spawn();
        std::thread::sleep(Duration::from_millis(1500));
        proxy.set(Trouble::BlackHole);
        wd.sh("kput -q s").stdin(records(100, 200)).ok();
        std::thread::sleep(Duration::from_millis(700));
        let begun = std::time::Instant::now();
        follower.signal("TERM");
        let done = follower.wait();
        let took = begun.elapsed();
        assert!(
            done.status == 143 && took < Duration::from_secs(20),
            "{}: {took:?}: {}",
            done.status,
            done.stderr
        );
        proxy.set(Trouble::None);
        let done = place.khose(&wd, "s", "").done();
        assert_eq!(done.status, 1, "{}", done.stderr);
        quiet.found().expect_once(&place.url, &records(0, 200));
    }
}

/// What lies on this machine's disk on its way to a bucket has no name there.
#[test]
fn nothing_of_a_killed_run_to_a_bucket_stays_on_the_disk() {
    let Some(s3) = servers::s3() else { return };
    let wd = Workdir::new();
    wd.sh("mkdir tmp; kput -q --create s").stdin(records(0, 3000)).ok();
    let place = Place { url: format!("s3://{}/lake/", s3.bucket()), variables: s3.variables() };
    let tool = place.khose(&wd, "s", "-o lines --prefix x/");
    let done = tool.env("TMPDIR", wd.join("tmp")).env("KPIPE_FAILPOINT", "deliver.after").done();
    assert_eq!(done.status, 137, "{}", done.stderr);
    wd.sh("ls -A tmp").ok().expect_stdout("");
}

#[test]
fn runs_to_a_bucket_killed_at_random() {
    for (n, bucket) in buckets().into_iter().enumerate() {
        killed_at_random(&bucket, 7 + n as u64, 4);
    }
}
