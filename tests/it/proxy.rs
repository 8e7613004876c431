//! A network that misbehaves: a proxy for one TCP server, told what to do with the bytes that come by.
//!
//! ```text
//! let proxy = Proxy::start(&server.url);
//! proxy.set(Trouble::LoseAnswers(1));      // the next request takes effect and is never answered
//! ```
//!
//! What is set holds from then on for the connections that are open as well.

#![allow(dead_code, reason = "a vocabulary for tests: not every word is in use at every time")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing out of the ordinary.
    None,
    /// So many times the first bytes of an answer, and the connection with them, are lost: the request took effect.
    LoseAnswers(u32),
    /// So many connections are cut when these many bytes of requests have gone through, counted from now on.
    CutRequests { after: u64, times: u32 },
    /// So many connections are cut when these many bytes of answers have gone through, counted from now on.
    CutAnswers { after: u64, times: u32 },
    /// No faster than this, in both directions.
    Slow { bytes_per_second: u64 },
    /// Bytes are taken and nothing comes back; connections stay open.
    BlackHole,
    /// Connections end as soon as they are made, and those that are open end.
    Refuse,
}

struct State {
    trouble: Trouble,
    requests: u64,
    answers: u64,
    connections: u64,
}

/// A proxy on a port of its own, for as long as the process lives.
#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What becomes of some bytes.
enum Fate {
    Pass,
    Vanish,
    Cut,
}

impl Proxy {
    /// Begins to listen for the server at this URL (`http://HOST:PORT`) or `HOST:PORT`.
    pub(crate) fn start(server: &str) -> Self {
        let server = server.rsplit("//").next().expect("a URL").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let state = State { trouble: Trouble::None, requests: 0, answers: 0, connections: 0 };
        let proxy =
            Self { address: listener.local_addr().expect("an address"), state: Arc::new(Mutex::new(state)) };
        let accepting = proxy.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                accepting.state().connections += 1;
                if accepting.state().trouble == Trouble::Refuse {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                accepting.carry(&client, &upstream, true);
                accepting.carry(&upstream, &client, false);
            }
        });
        proxy
    }

    /// Where it listens, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the network does from now on.
    pub(crate) fn set(&self, trouble: Trouble) {
        let mut state = self.state();
        (state.trouble, state.requests, state.answers) = (trouble, 0, 0);
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.state().connections
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry(&self, from: &TcpStream, to: &TcpStream, is_request: bool) {
        let (mut from, mut to) = (from.try_clone().expect("a stream"), to.try_clone().expect("a stream"));
        let proxy = self.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 16 << 10];
            loop {
                let got = from.read(&mut bytes).unwrap_or(0);
                let fate = if got == 0 { Fate::Cut } else { proxy.fate(got as u64, is_request) };
                let goes_on = match fate {
                    Fate::Pass => to.write_all(&bytes[..got]).is_ok(),
                    Fate::Vanish => true,
                    Fate::Cut => false,
                };
                if !goes_on {
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
            }
        });
    }

    fn fate(&self, len: u64, is_request: bool) -> Fate {
        let mut state = self.state();
        let State { trouble, requests, answers, .. } = &mut *state;
        *if is_request { &mut *requests } else { &mut *answers } += len;
        match trouble {
            Trouble::LoseAnswers(left) if !is_request && *left > 0 => {
                *left -= 1;
                Fate::Cut
            }
            Trouble::CutRequests { after, times } if is_request && *times > 0 && *requests > *after => {
                (*times, *requests) = (*times - 1, 0);
                Fate::Cut
            }
            Trouble::CutAnswers { after, times } if !is_request && *times > 0 && *answers > *after => {
                (*times, *answers) = (*times - 1, 0);
                Fate::Cut
            }
            Trouble::Slow { bytes_per_second } => {
                let pause = Duration::from_secs_f64(len as f64 / *bytes_per_second as f64);
                drop(state);
                std::thread::sleep(pause);
                Fate::Pass
            }
            Trouble::BlackHole => Fate::Vanish,
            Trouble::Refuse => Fate::Cut,
            _ => Fate::Pass,
        }
    }
}

#[test]
fn the_network_does_as_it_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    // An echo.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    let proxy = Proxy::start(&server);
    let connect = || {
        let stream = TcpStream::connect(proxy.url().trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream
    };
    // What comes back of a word: all of it, nothing because of a cut, or nothing at all.
    let say = |stream: &mut TcpStream| {
        let mut answer = [0; 5];
        let _ = stream.write_all(b"hello");
        match stream.read(&mut answer) {
            Ok(0) => "cut",
            Ok(_) => "answered",
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => "cut",
            Err(_) => "silent",
        }
    };
    let mut stream = connect();
    assert_eq!(say(&mut stream), "answered");
    proxy.set(Trouble::LoseAnswers(1));
    assert_eq!((say(&mut stream), say(&mut connect())), ("cut", "answered"));
    proxy.set(Trouble::CutRequests { after: 7, times: 1 });
    let mut stream = connect();
    assert_eq!((say(&mut stream), say(&mut stream), say(&mut connect())), ("answered", "cut", "answered"));
    proxy.set(Trouble::CutAnswers { after: 0, times: 2 });
    assert_eq!((say(&mut connect()), say(&mut connect()), say(&mut connect())), ("cut", "cut", "answered"));
    proxy.set(Trouble::BlackHole);
    assert_eq!(say(&mut connect()), "silent");
    proxy.set(Trouble::Refuse);
    assert_eq!(say(&mut connect()), "cut");
    proxy.set(Trouble::Slow { bytes_per_second: 100 });
    let begun = std::time::Instant::now();
    assert_eq!(say(&mut connect()), "answered");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert!(proxy.connections() >= 9);
}
