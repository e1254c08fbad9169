//! One open connection to a broker as a stream of frames. What is too large to be read is skipped without being
//! kept; nothing else is decided here.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use super::MAX_PAYLOAD;

/// Frames above this size are skipped: the largest payload with the longest topic and some properties.
const MAX_FRAME: usize = MAX_PAYLOAD + 256 * 1024;

/// Bytes to read at a time.
const CHUNK: usize = 16 * 1024;

/// While so many bytes wait to be written nothing is read: every message read may want an answer.
const MAX_UNSENT: usize = 4 * 1024 * 1024;

/// A socket, with or without TLS.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// See the module.
pub(super) struct Wire {
    reader: ReadHalf<Box<dyn Socket>>,
    writer: WriteHalf<Box<dyn Socket>>,
    input: BytesMut,
    /// What is to be sent; append to it, then call [`Wire::turn`].
    pub(super) output: BytesMut,
    /// Bytes were written and not flushed.
    unflushed: bool,
    skip: Option<(usize, TooLarge)>,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Bytes came: the broker lives, also when they are no whole frame yet.
    Read,
    Wrote,
}

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Whole(BytesMut),
    TooLarge(TooLarge),
}

/// A PUBLISH that was skipped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) topic: String,
    /// 0, 1, 2.
    pub(super) qos: u8,
    /// 0 at QoS 0.
    pub(super) id: u16,
    /// Size of the packet.
    pub(super) bytes: usize,
}

impl Wire {
    pub(super) fn new(socket: Box<dyn Socket>) -> Self {
        let (reader, writer) = tokio::io::split(socket);
        Self { reader, writer, input: BytesMut::new(), output: BytesMut::new(), unflushed: false, skip: None }
    }

    /// Whether everything has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.unflushed
    }

    /// Writes or reads some bytes, whichever is possible first. Cancel-safe.
    ///
    /// # Errors
    /// The connection is over; `UnexpectedEof` if the broker closed it.
    pub(super) async fn turn(&mut self) -> io::Result<Turn> {
        let Self { reader, writer, input, output, unflushed, .. } = self;
        let has_output = !output.is_empty() || *unflushed;
        let may_read = output.len() < MAX_UNSENT;
        input.reserve(CHUNK);
        tokio::select! {
            read = reader.read_buf(input), if may_read => match read? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(Turn::Read),
            },
            written = write(writer, output, unflushed), if has_output => written.map(|()| Turn::Wrote),
        }
    }

    /// The next frame that has been read whole.
    ///
    /// # Errors
    /// What was read is no MQTT.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, String> {
        if let Some((left, too_large)) = self.skip.take() {
            let here = left.min(self.input.len());
            self.input.advance(here);
            if here < left {
                self.skip = Some((left - here, too_large));
                return Ok(None);
            }
            return Ok(Some(Frame::TooLarge(too_large)));
        }
        let Some((head, body)) = lengths(&self.input)? else { return Ok(None) };
        let whole = head + body;
        if whole > MAX_FRAME {
            let Some(too_large) = self.too_large(head, whole)? else { return Ok(None) };
            self.skip = Some((whole, too_large));
            return self.next_frame();
        }
        if self.input.len() < whole {
            self.input.reserve(whole - self.input.len());
            return Ok(None);
        }
        Ok(Some(Frame::Whole(self.input.split_to(whole))))
    }

    /// What stands before the payload of a PUBLISH; `None` until it has been read.
    fn too_large(&self, head: usize, bytes: usize) -> Result<Option<TooLarge>, String> {
        let first = self.input.first().copied().unwrap_or_default();
        if first >> 4 != 3 {
            return Err(format!("a packet of {bytes} bytes that is no message"));
        }
        let mut rest = self.input.get(head..).unwrap_or_default();
        let Ok(length) = rest.try_get_u16() else { return Ok(None) };
        let Some((topic, mut rest)) = rest.split_at_checked(usize::from(length)) else { return Ok(None) };
        let qos = first >> 1 & 3;
        let id = match qos {
            0 => 0,
            _ => match rest.try_get_u16() {
                Ok(id) => id,
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(TooLarge { topic: String::from_utf8_lossy(topic).into_owned(), qos, id, bytes }))
    }
}

async fn write(writer: &mut WriteHalf<Box<dyn Socket>>, output: &mut BytesMut, unflushed: &mut bool) -> io::Result<()> {
    if output.is_empty() {
        writer.flush().await?;
        *unflushed = false;
        return Ok(());
    }
    *unflushed = true;
    match writer.write_buf(output).await? {
        0 => Err(io::Error::new(io::ErrorKind::WriteZero, "the broker takes nothing any more")),
        _ => Ok(()),
    }
}

/// Bytes of the fixed header and of what follows it (MQTT 2.2.3); `None` until the header has been read.
fn lengths(input: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut body = 0usize;
    for (at, shift) in [(1, 0), (2, 7), (3, 14), (4, 21)] {
        let Some(byte) = input.get(at) else { return Ok(None) };
        body |= usize::from(byte & 0x7F) << shift;
        if *byte < 0x80 {
            return Ok(Some((at + 1, body)));
        }
    }
    Err("a packet with a length of more than four bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::mqtt::packet::{self, Packet};

    fn publish(topic: &str, qos: u8, payload: usize) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&u16::try_from(topic.len()).unwrap().to_be_bytes());
        body.extend_from_slice(topic.as_bytes());
        if qos > 0 {
            body.extend_from_slice(&[0, 7]);
        }
        body.resize(body.len() + payload, 1);
        let mut frame = vec![0x30 | qos << 1];
        let mut left = body.len();
        while left >= 0x80 {
            frame.push((left & 0x7F) as u8 | 0x80);
            left >>= 7;
        }
        frame.push(left as u8);
        frame.extend_from_slice(&body);
        frame
    }

    /// What comes out when `bytes` arrive in pieces of `piece`, and how much was kept at most.
    async fn read(bytes: Vec<u8>, piece: usize) -> (Vec<Frame>, usize) {
        let (near, mut far) = tokio::io::duplex(piece);
        let mut wire = Wire::new(Box::new(near));
        let sender = tokio::spawn(async move { far.write_all(&bytes).await });
        let (mut frames, mut most) = (Vec::new(), 0);
        while wire.turn().await.is_ok() {
            most = most.max(wire.input.len());
            while let Some(frame) = wire.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        sender.await.unwrap().unwrap();
        (frames, most)
    }

    #[tokio::test]
    async fn b13_a_frame_that_is_too_large_is_skipped_and_never_kept() {
        let mut bytes = publish("before", 0, 10);
        bytes.extend(publish("big", 1, 8 * MAX_PAYLOAD));
        bytes.extend(publish("after", 0, MAX_PAYLOAD));
        let (frames, most) = read(bytes, CHUNK).await;
        let [Frame::Whole(before), Frame::TooLarge(big), Frame::Whole(after)] = <[Frame; 3]>::try_from(frames).unwrap()
        else {
            panic!("not three frames")
        };
        assert!(matches!(packet::decode(before, false), Ok(Packet::Publish(p)) if p.topic == "before"));
        assert_eq!((big.topic.as_str(), big.qos, big.id), ("big", 1, 7));
        assert!(big.bytes > 8 * MAX_PAYLOAD);
        assert!(matches!(packet::decode(after, false), Ok(Packet::Publish(p)) if p.payload.len() == MAX_PAYLOAD));
        assert!(most <= MAX_FRAME + 2 * CHUNK, "{most} bytes were kept");
    }

    #[tokio::test]
    async fn frames_come_out_whole_whatever_the_pieces() {
        for piece in [1, 2, 3, 7] {
            let bytes = [publish("a", 0, 3), publish("b", 1, 200), publish("c", 2, 0)].concat();
            let (frames, _) = read(bytes, piece).await;
            let topics: Vec<_> = frames
                .into_iter()
                .map(|frame| match frame {
                    Frame::Whole(frame) => match packet::decode(frame, false) {
                        Ok(Packet::Publish(publish)) => publish.topic,
                        other => panic!("{other:?}"),
                    },
                    Frame::TooLarge(_) => panic!("too large"),
                })
                .collect();
            assert_eq!(topics, ["a", "b", "c"]);
        }
    }

    #[test]
    fn what_is_no_mqtt_is_said() {
        assert!(lengths(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]).is_err());
        assert_eq!(lengths(&[0x30, 0xFF, 0xFF]), Ok(None));
        assert_eq!(lengths(&[0xD0, 0]), Ok(Some((2, 0))));
        assert_eq!(lengths(&[0x30, 0x80, 1]), Ok(Some((3, 128))));
    }
}
