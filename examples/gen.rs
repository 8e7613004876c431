use kpipe::log::{Batch, Codec, Fresh, Writer};
use kpipe::stream::{NewStream, Stream};
use kpipe::sys::System;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let n: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let stream = Stream::create(&System::real(), std::path::Path::new(&path), &NewStream::default()).unwrap();
    let info = stream.manifest().shards[0].clone();
    let mut w =
        Writer::open(stream.log_dir(&info), stream.locks().unwrap(), stream.roll(), info.range()).unwrap();
    let line = vec![b'x'; 99];
    let mut done = 0;
    while done < n {
        let mut batch = Batch::new(Some(b'\n'));
        for _ in 0..2600.min(n - done) {
            batch.push(Fresh { payload: &line, ..Fresh::default() });
        }
        done += batch.len();
        w.append(&[batch.draft(Codec::None, None)]).unwrap();
    }
    w.pause().unwrap();
}
