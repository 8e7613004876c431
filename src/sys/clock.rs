//! The wall clock and the clock that only goes forward. No other module reads either.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Clock;

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now_us(&self) -> i64 {
        // A clock set before 1970 counts as 1970: arrival times only have to go forward.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
    }

    fn boot_us(&self) -> i64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        time.tv_sec * 1_000_000 + time.tv_nsec / 1000
    }

    fn boot_id(&self) -> u64 {
        static BOOT: OnceLock<u64> = OnceLock::new();
        *BOOT.get_or_init(|| {
            // FNV-1a over the kernel's own name for this boot. Where /proc is missing every start counts as another
            // boot, which only costs a check of the tail.
            let text = fs::read("/proc/sys/kernel/random/boot_id")
                .unwrap_or_else(|_| std::process::id().to_string().into_bytes());
            text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            })
        })
    }
}
