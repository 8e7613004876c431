//! Progress on standard error, while a person watches; nothing otherwise.
//!
//! The working thread only adds to two counters, once per batch. A thread of the meter's own reads them ten times a
//! second and draws.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report;
use super::value::{about_duration, about_size, show_count};

/// Whether progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Progress {
    /// When standard error is a terminal.
    #[default]
    Auto,
    /// Always: a line every ten seconds where standard error is no terminal.
    Always,
    /// Never.
    Never,
}

/// What has gone through so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Counts {
    records: AtomicU64,
    bytes: AtomicU64,
    ended: AtomicBool,
}

impl Counts {
    fn tally(&self) -> Tally {
        Tally { records: self.records.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Counts what goes through, and shows it if somebody watches.
#[derive(Debug)]
pub struct Meter {
    counts: Arc<Counts>,
    bar: ProgressBar,
    shower: Option<JoinHandle<()>>,
}

/// Between two pictures: quick enough to look alive.
const FRAME: Duration = Duration::from_millis(100);
/// Between two lines in a log file.
const LINE: Duration = Duration::from_secs(10);
/// Work that is done sooner than this shows nothing: a flicker tells nobody anything.
const PATIENCE: Duration = Duration::from_millis(500);

impl Meter {
    /// A meter for `program`; `total_bytes`, where the whole is known, adds a bar and the time left.
    pub fn start(program: &'static str, progress: Progress, quiet: bool, total_bytes: Option<u64>) -> Self {
        let counts = Arc::new(Counts::default());
        let terminal = std::io::stderr().is_terminal();
        let shown = match progress {
            Progress::Never => false,
            _ if quiet => false,
            Progress::Auto => terminal,
            Progress::Always => true,
        };
        let bar = ProgressBar::with_draw_target(total_bytes, ProgressDrawTarget::hidden());
        let shower = shown.then(|| {
            let (counts, bar) = (Arc::clone(&counts), bar.clone());
            std::thread::spawn(move || {
                if terminal {
                    draw(&counts, &bar);
                } else {
                    print(program, &counts, total_bytes);
                }
            })
        });
        Self { counts, bar, shower }
    }

    /// Adds a batch.
    pub fn add(&self, records: u64, bytes: u64) {
        self.counts.records.fetch_add(records, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was added so far.
    pub fn tally(&self) -> Tally {
        self.counts.tally()
    }

    /// Runs `print`, which writes to standard error, with the bar out of the way.
    pub fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }

    /// Clears the picture. The sum is the caller's to print.
    pub fn finish(mut self) -> Tally {
        self.stop();
        self.tally()
    }

    fn stop(&mut self) {
        self.counts.ended.store(true, Ordering::Relaxed);
        if let Some(shower) = self.shower.take() {
            shower.thread().unpark();
            // It can only have failed at drawing.
            let _ = shower.join();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sleeps; false once the meter has ended.
fn sleep(counts: &Counts, length: Duration) -> bool {
    let until = Instant::now() + length;
    while !counts.ended.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::park_timeout(left);
    }
    false
}

fn draw(counts: &Counts, bar: &ProgressBar) {
    let mut flow = Flow::start();
    if !sleep(counts, PATIENCE) {
        return;
    }
    let template =
        if bar.length().is_some() { "{bar:16} {percent:>3}%  {wide_msg}" } else { "{spinner} {wide_msg}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.set_draw_target(ProgressDrawTarget::stderr());
    loop {
        let tally = counts.tally();
        bar.set_position(tally.bytes);
        bar.set_message(flow.text(Instant::now(), tally, bar.length()));
        bar.tick();
        if !sleep(counts, FRAME) {
            break;
        }
    }
    bar.finish_and_clear();
}

fn print(program: &str, counts: &Counts, total_bytes: Option<u64>) {
    let mut flow = Flow::start();
    while sleep(counts, LINE) {
        report::say(program, &flow.text(Instant::now(), counts.tally(), total_bytes), None);
    }
}

/// The rate, smoothed over the last seconds.
struct Flow {
    at: Instant,
    last: Tally,
    rate: Option<(f64, f64)>,
}

impl Flow {
    fn start() -> Self {
        Self { at: Instant::now(), last: Tally::default(), rate: None }
    }

    /// `1 234 567 records, 617 283/s  1.20 GiB, 310 MiB/s  12s left`
    fn text(&mut self, now: Instant, tally: Tally, total_bytes: Option<u64>) -> String {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        if seconds > 0.0 {
            let fresh = (
                (tally.records - self.last.records) as f64 / seconds,
                (tally.bytes - self.last.bytes) as f64 / seconds,
            );
            // A rate of three seconds ago weighs a third of today's.
            let weight = 1.0 - (-seconds / 3.0).exp();
            let blend = |old: f64, new: f64| old + (new - old) * weight;
            self.rate = Some(self.rate.map_or(fresh, |old| (blend(old.0, fresh.0), blend(old.1, fresh.1))));
            (self.at, self.last) = (now, tally);
        }
        let (records_s, bytes_s) = self.rate.unwrap_or_default();
        let mut text = format!(
            "{} records, {}/s  {}, {}/s",
            show_count(tally.records),
            show_count(records_s as u64),
            about_size(tally.bytes),
            about_size(bytes_s as u64)
        );
        if let Some(left) =
            total_bytes.map(|total| total.saturating_sub(tally.bytes)).filter(|_| bytes_s >= 1.0)
        {
            let left = Duration::from_secs((left as f64 / bytes_s).ceil() as u64);
            let _ = write!(text, "  {} left", about_duration(left));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_shows_nothing_unasked() {
        let meter = Meter::start("kput", Progress::Never, false, Some(10));
        assert!(meter.shower.is_none());
        meter.add(2, 20);
        meter.add(1, 5);
        assert_eq!(meter.finish(), Tally { records: 3, bytes: 25 });
        assert!(Meter::start("kput", Progress::Always, true, None).shower.is_none(), "--quiet wins");
    }

    #[test]
    fn ends_at_once() {
        let begun = Instant::now();
        Meter::start("kput", Progress::Always, false, None).finish();
        assert!(begun.elapsed() < LINE / 2);
    }

    #[test]
    fn says_how_much_how_fast_and_how_long_yet() {
        let mut flow = Flow::start();
        let tally = Tally { records: 1_234_567, bytes: 1 << 30 };
        let text = flow.text(flow.at + Duration::from_secs(2), tally, Some(3 << 30));
        assert_eq!(text, "1 234 567 records, 617 283/s  1.00 GiB, 512 MiB/s  4s left");
        let text = flow.text(flow.at, tally, None);
        assert!(text.ends_with("512 MiB/s"), "no time passed: the rate stays ({text})");
    }
}
