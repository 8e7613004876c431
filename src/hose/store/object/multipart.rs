//! Large objects, in parts.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{MultipartUpload, PutMultipartOptions, PutPayload};

use super::super::super::format::body::Body;
use super::super::Attributes;
use super::transport::{patience, within};
use super::{BucketStore, Fault, Opened, PART_BYTES, PARTS_AT_ONCE, PARTS_MAX};
use crate::sys::failpoint::failpoint;

/// How long the parts of an object are: all of one length but the last, as some services ask.
fn part_bytes(len: u64) -> u64 {
    len.div_ceil(PARTS_MAX).next_multiple_of(1 << 20).max(PART_BYTES)
}

/// An upload that is taken back unless it is completed: parts that nobody completes are paid for until somebody looks.
struct Upload(Option<Box<dyn MultipartUpload>>);

impl Upload {
    async fn take_back(mut self) {
        if let Some(upload) = self.0.take() {
            abort(upload).await;
        }
    }
}

impl Drop for Upload {
    /// Whoever waited for the put has given it up.
    fn drop(&mut self) {
        if let (Some(upload), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(abort(upload));
        }
    }
}

/// Best effort: what is left is removed by a lifecycle rule of the bucket, if there is one.
async fn abort(mut upload: Box<dyn MultipartUpload>) {
    let _ = tokio::time::timeout(patience(0), upload.abort()).await;
}

impl BucketStore {
    pub(super) async fn send_in_parts(
        &self,
        opened: &Opened,
        name: &str,
        path: &Path,
        body: &Body,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let options = PutMultipartOptions { attributes: self.attributes(attributes), ..Default::default() };
        let mut upload = Upload(Some(opened.client.put_multipart_opts(path, options).await?));
        failpoint("store.multipart.begun");
        match self.send_parts(&mut upload, name, body).await {
            Ok(()) => {
                upload.0 = None;
                Ok(())
            }
            Err(fault) => {
                upload.take_back().await;
                Err(fault)
            }
        }
    }

    async fn send_parts(&self, upload: &mut Upload, name: &str, body: &Body) -> Result<(), Fault> {
        let Some(upload) = upload.0.as_mut() else { return Ok(()) };
        let part_bytes = part_bytes(body.len());
        let mut on_the_way = FuturesUnordered::new();
        let mut offset = 0;
        while offset < body.len() {
            if on_the_way.len() == PARTS_AT_ONCE {
                on_the_way.next().await.unwrap_or(Ok(()))?;
            }
            let reserving = self.reserve(part_bytes.min(body.len() - offset));
            // While others have all the memory, ours go on: one of them may be what the others wait for.
            let permit = {
                let mut reserving = std::pin::pin!(reserving);
                loop {
                    if on_the_way.is_empty() {
                        break reserving.await;
                    }
                    match futures_util::future::select(reserving.as_mut(), on_the_way.next()).await {
                        futures_util::future::Either::Left((permit, _)) => break permit,
                        futures_util::future::Either::Right((done, _)) => done.unwrap_or(Ok(()))?,
                    }
                }
            };
            let part = self.read_part(name, body, offset, part_bytes).await?;
            let len = part.len() as u64;
            offset += len;
            let sending = within(len, upload.put_part(PutPayload::from(part)));
            on_the_way.push(async move {
                let sent = sending.await;
                drop(permit);
                failpoint("store.multipart.part");
                sent
            });
        }
        while let Some(sent) = on_the_way.next().await {
            sent?;
        }
        drop(on_the_way);
        failpoint("store.multipart.sent");
        upload.complete().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_has_too_many_parts() {
        const TIB: u64 = 1 << 40;
        for len in [1, 17 << 20, 80_000 << 20, 80_001 << 20, 5 * TIB] {
            let part = part_bytes(len);
            assert!(part >= PART_BYTES && len.div_ceil(part) <= PARTS_MAX, "{len}");
        }
        assert_eq!(part_bytes(100 << 20), PART_BYTES);
    }
}
