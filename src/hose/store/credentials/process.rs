//! `credential_process`: a program that prints credentials.
//!
//! The command is one line for the shell, as the SDKs run it. It prints a JSON object with `Version` 1, `AccessKeyId`,
//! `SecretAccessKey`, and `SessionToken` and `Expiration` where they are temporary. What it says on its standard error is
//! its own and goes where ours goes. Nothing that it prints is ever part of a message of ours.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::CredentialError;
use super::profile::Keys;
use crate::sys::process::Process;

/// As long as the SDKs wait.
const PATIENCE: Duration = Duration::from_mins(1);
/// More than any credentials have: a program that prints for ever is not one for credentials.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

/// Runs the command and waits for its end. Answers the keys and when they end, microseconds since the epoch.
pub(super) fn run(command: &str, profile: &str) -> Result<(Keys, Option<i64>), CredentialError> {
    run_for(command, profile, PATIENCE)
}

fn run_for(command: &str, profile: &str, patience: Duration) -> Result<(Keys, Option<i64>), CredentialError> {
    let from = format!("credential_process of profile `{profile}`");
    let failed = |what: &str| CredentialError::transient(format!("{from}: {what}"));
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A group of its own, so that what it has started ends with it.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(&format!("cannot be started: {error}")))?;
    let group = Process::of(child.id());
    let pipe = child.stdout.take();
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.map(|pipe| pipe.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes));
        bytes
    });
    let begun = Instant::now();
    // The pipe may outlive the program, held by one that it left behind: the end of both is waited for.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) if reading.is_finished() => break status,
            Ok(_) if begun.elapsed() < patience => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                group.kill_group();
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(&format!("not done after {} s", patience.as_secs())));
            }
        }
    };
    let output = reading.join().unwrap_or_default();
    if output.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(failed("it prints too much for credentials"));
    }
    if !status.success() {
        return Err(failed(&format!("{status}")));
    }
    read(&output, &from)
}

fn read(output: &[u8], from: &str) -> Result<(Keys, Option<i64>), CredentialError> {
    let wrong = |what: &str| CredentialError::permanent(format!("{from}: {what}"));
    // The parser's own message may repeat what it read.
    let output: Output = serde_json::from_slice(output)
        .map_err(|_| wrong("it prints no JSON object with Version, AccessKeyId and SecretAccessKey"))?;
    if output.version != 1 {
        return Err(wrong(&format!("it speaks version {}, and 1 is known here", output.version)));
    }
    let expires_us = match &output.expiration {
        Some(text) => Some(
            text.parse::<jiff::Timestamp>().map_err(|_| wrong("its Expiration is no time"))?.as_microsecond(),
        ),
        None => None,
    };
    let token = output.session_token.as_deref().filter(|token| !token.is_empty());
    Ok((Keys::new(&output.access_key_id, &output.secret_access_key, token, from)?, expires_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(command: &str, patience: u64) -> Result<(String, Option<i64>), String> {
        let (keys, expires) =
            run_for(command, "p", Duration::from_millis(patience)).map_err(|error| error.to_string())?;
        Ok((format!("{}:{}:{:?}", keys.id, keys.secret, keys.token), expires))
    }

    #[test]
    fn what_a_program_prints() {
        let keys = r#"echo '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"B"}'"#;
        assert_eq!(said(keys, 60_000).unwrap(), ("A:B:None".to_owned(), None));
        let temporary = r#"echo '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"B","SessionToken":"C",
            "Expiration":"2026-11-25T01:00:00Z","More":{}}'; echo hello >/dev/null"#;
        let (keys, expires) = said(temporary, 60_000).unwrap();
        assert_eq!((keys.as_str(), expires), (r#"A:B:Some("C")"#, Some(1_795_568_400_000_000)));
    }

    #[test]
    fn what_is_wrong_with_it_is_said_without_its_output() {
        for (command, why) in [
            ("exit 3", "exit status: 3"),
            ("kill -9 $$", "signal: 9"),
            ("echo hunter2", "it prints no JSON object with Version, AccessKeyId and SecretAccessKey"),
            (r#"echo '{"Version":2,"AccessKeyId":"A","SecretAccessKey":"hunter2"}'"#, "it speaks version 2"),
            (
                r#"echo '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"hunter2","Expiration":"soon"}'"#,
                "is no time",
            ),
            (
                r#"echo '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"hunter 2"}'"#,
                "has characters that no key has",
            ),
            ("yes hunter2", "it prints too much"),
        ] {
            let error = said(command, 60_000).unwrap_err();
            assert!(error.starts_with("credential_process of profile `p`: "), "{error}");
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("hunter"), "{error}");
        }
    }

    #[test]
    fn it_does_not_wait_for_ever_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let command = format!("sleep 600 & echo $! > {}; wait", pid.display());
        assert!(said(&command, 500).unwrap_err().contains("not done after 0 s"));
        let child: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let begun = Instant::now();
        let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        while !state().is_empty() && !state().contains(") Z ") {
            assert!(begun.elapsed() < Duration::from_secs(30), "it still runs");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
