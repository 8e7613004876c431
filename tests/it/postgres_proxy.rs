//! Stands between a client and PostgreSQL and does what networks, and other servers, do: it cuts the connection at a
//! chosen message, or answers a statement in its own way.

#![expect(clippy::big_endian_bytes, reason = "the lengths of the protocol are")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A message of the client: its kind (`Q` for a statement) and its bytes.
pub(crate) struct Message<'a> {
    pub(crate) kind: u8,
    pub(crate) body: &'a [u8],
}

impl Message<'_> {
    /// The statement of a simple query.
    pub(crate) fn statement(&self) -> Option<&str> {
        let text = self.body.strip_suffix(&[0]).unwrap_or(self.body);
        (self.kind == b'Q').then(|| std::str::from_utf8(text).unwrap_or_default())
    }
}

/// What becomes of a message.
pub(crate) enum Fate {
    /// It goes on.
    Forward,
    /// The server gets this statement instead.
    Instead(String),
    /// Both connections are cut, and the server never sees it.
    CutBefore,
    /// The server carries it out, and its answer is lost.
    CutAfter,
}

/// Decides what becomes of messages.
pub(crate) type Decide = Arc<dyn Fn(&Message<'_>) -> Fate + Send + Sync>;

/// A port of this machine behind which the server is. It listens until the process ends.
pub(crate) fn proxy(to: u16, decide: Decide) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let decide = Arc::clone(&decide);
            thread::spawn(move || {
                let _ = serve(client, to, &decide);
            });
        }
    });
    port
}

fn serve(mut client: TcpStream, to: u16, decide: &Decide) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", to))?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    // The first message has no kind. A wish to encrypt (80877103) is answered with no.
    loop {
        let first = frame(&mut client, 0)?;
        if first[4..8] == 80_877_103_u32.to_be_bytes() {
            client.write_all(b"N")?;
            continue;
        }
        server.write_all(&first)?;
        break;
    }
    let losing = Arc::new(AtomicBool::new(false));
    let (mut from, mut back, lost) = (server.try_clone()?, client.try_clone()?, Arc::clone(&losing));
    thread::spawn(move || {
        while let Ok(answer) = frame(&mut from, 1) {
            if lost.load(Ordering::SeqCst) {
                // Ready for the next statement: this one has been carried out.
                if answer[0] == b'Z' {
                    break;
                }
            } else if back.write_all(&answer).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), back.shutdown(Shutdown::Both));
    });
    // Whatever ends this, a failed assertion too, ends both connections: a transaction left open would hold its locks.
    let _ends = Ends(server.try_clone()?, client.try_clone()?);
    while let Ok(message) = frame(&mut client, 1) {
        match decide(&Message { kind: message[0], body: &message[5..] }) {
            Fate::Forward => server.write_all(&message)?,
            Fate::Instead(statement) => {
                let mut query = vec![b'Q'];
                query.extend((statement.len() as u32 + 5).to_be_bytes());
                query.extend(statement.as_bytes());
                query.push(0);
                server.write_all(&query)?;
            }
            Fate::CutBefore => break,
            Fate::CutAfter => {
                losing.store(true, Ordering::SeqCst);
                server.write_all(&message)?;
            }
        }
    }
    Ok(())
}

/// Two connections that end with this.
struct Ends(TcpStream, TcpStream);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = (self.0.shutdown(Shutdown::Both), self.1.shutdown(Shutdown::Both));
    }
}

/// A message with its length, and `kind` bytes before that.
fn frame(from: &mut TcpStream, kind: usize) -> io::Result<Vec<u8>> {
    let mut message = vec![0; kind + 4];
    from.read_exact(&mut message)?;
    let len = u32::from_be_bytes([message[kind], message[kind + 1], message[kind + 2], message[kind + 3]]);
    message.resize(kind + len as usize, 0);
    from.read_exact(&mut message[kind + 4..])?;
    Ok(message)
}
