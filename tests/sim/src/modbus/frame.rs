//! Framing: the MBAP header of Modbus TCP, the checksum of RTU, and the faults that concern frames. Never looks at registers.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::pdu::{self, Handled};
use super::{Bus, exception};
use crate::net::{Control, Fault};

/// How frames are delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Modbus TCP: a header with transaction id and length.
    Tcp,
    /// Modbus RTU: unit id, PDU and CRC-16, delimited by silence.
    Rtu,
}

/// A partial RTU frame older than this was noise.
const RTU_SILENCE: Duration = Duration::from_millis(200);

/// The checksum of Modbus RTU (polynomial 0xA001 reflected, start 0xFFFF); sent low byte first.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}

pub(super) async fn tcp<S>(mut stream: S, bus: &Bus, control: &Control) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let mut header = [0u8; 7];
        stream.read_exact(&mut header).await?;
        let [t1, t0, p1, p0, l1, l0, id] = header;
        let length = usize::from(u16::from_be_bytes([l1, l0]));
        if [p1, p0] != [0, 0] || !(2..=254).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no Modbus TCP header"));
        }
        let mut request = vec![0; length - 1];
        stream.read_exact(&mut request).await?;
        let fault = control.admit().await;
        let Some(handled) = answer(bus, id, &request, fault.as_ref(), Framing::Tcp) else { continue };
        let transaction = u16::from_be_bytes([t1, t0]);
        let transaction =
            if fault == Some(Fault::WrongTransaction) { transaction.wrapping_add(0x4321) } else { transaction };
        let id_back = if fault == Some(Fault::WrongUnit) { id.wrapping_add(1) } else { id };
        let mut frame = transaction.to_be_bytes().to_vec();
        frame.extend([0, 0]);
        frame.extend(((handled.pdu.len() + 1) as u16).to_be_bytes());
        frame.push(id_back);
        frame.extend(&handled.pdu);
        announce(bus, id, &handled, fault.as_ref());
        if !send(&mut stream, frame, fault.as_ref()).await? {
            return Ok(());
        }
    }
}

pub(super) async fn rtu<S>(mut stream: S, bus: &Bus, control: &Control) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let mut chunk = [0u8; 256];
        let read = if buffer.is_empty() {
            stream.read(&mut chunk).await?
        } else {
            match tokio::time::timeout(RTU_SILENCE, stream.read(&mut chunk)).await {
                Ok(read) => read?,
                Err(_) => {
                    buffer.clear();
                    continue;
                }
            }
        };
        if read == 0 {
            return Ok(());
        }
        buffer.extend(chunk.iter().take(read));
        while let Some(length) = rtu_length(&buffer) {
            if buffer.len() < length {
                break;
            }
            let frame: Vec<u8> = buffer.drain(..length).collect();
            // With its own checksum behind it the checksum of a good frame is 0.
            if crc16(&frame) != 0 {
                buffer.clear();
                break;
            }
            if !rtu_request(&mut stream, &frame, bus, control).await? {
                return Ok(());
            }
        }
    }
}

async fn rtu_request<S>(stream: &mut S, frame: &[u8], bus: &Bus, control: &Control) -> io::Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let id = frame.first().copied().unwrap_or(0);
    let request = frame.get(1..frame.len() - 2).unwrap_or_default();
    let fault = control.admit().await;
    let Some(handled) = answer(bus, id, request, fault.as_ref(), Framing::Rtu) else { return Ok(true) };
    let mut reply = vec![if fault == Some(Fault::WrongUnit) { id.wrapping_add(1) } else { id }];
    reply.extend(&handled.pdu);
    let crc = if fault == Some(Fault::BadCrc) { crc16(&reply) ^ 0x5555 } else { crc16(&reply) };
    reply.extend(crc.to_le_bytes());
    announce(bus, id, &handled, fault.as_ref());
    send(stream, reply, fault.as_ref()).await
}

/// Length of the RTU frame at the start of `buffer`, once it can be told; unknown functions count as 8 bytes.
fn rtu_length(buffer: &[u8]) -> Option<usize> {
    match buffer.get(1)? {
        15 | 16 => Some(9 + usize::from(*buffer.get(6)?)),
        _ => Some(8),
    }
}

/// The answer to a request, or none: broadcast, another's address on a line, or told to drop it.
fn answer(bus: &Bus, id: u8, request: &[u8], fault: Option<&Fault>, framing: Framing) -> Option<Handled> {
    let function = request.first().copied().unwrap_or(0);
    match fault {
        Some(Fault::Drop) => return None,
        Some(Fault::Exception(code)) => return Some(pdu::refusal(function, *code)),
        _ => {}
    }
    if framing == Framing::Rtu && id == 0 {
        // On a line, 0 is for everybody: all obey and nobody answers.
        for unit in bus.all() {
            unit.heard();
            pdu::handle(request, unit.as_ref());
        }
        return None;
    }
    let Some(unit) = bus.unit(id) else {
        return (framing == Framing::Tcp).then(|| pdu::refusal(function, exception::NO_TARGET));
    };
    unit.heard();
    Some(pdu::handle(request, unit.as_ref()))
}

/// Tells the unit of an answer that is about to leave undamaged; before it leaves, so that nobody can react earlier.
fn announce(bus: &Bus, id: u8, handled: &Handled, fault: Option<&Fault>) {
    if !matches!(fault, None | Some(Fault::Dribble)) {
        return;
    }
    if let (Some(unit), Some((table, address, count))) = (bus.unit(id), handled.read) {
        unit.answered(table, address, count);
    }
}

/// Sends a frame, spoiled as ordered; false when the connection is to be closed.
pub(crate) async fn send<S>(stream: &mut S, frame: Vec<u8>, fault: Option<&Fault>) -> io::Result<bool>
where
    S: AsyncWrite + Unpin,
{
    match fault {
        Some(Fault::Drop) => {}
        Some(Fault::Close) => return Ok(false),
        Some(Fault::Cut(bytes)) => {
            stream.write_all(frame.get(..*bytes).unwrap_or(&frame)).await?;
            stream.flush().await?;
            return Ok(false);
        }
        Some(Fault::Garbage(bytes)) => stream.write_all(bytes).await?,
        Some(Fault::Dribble) => {
            for byte in frame {
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        _ => stream.write_all(&frame).await?,
    }
    stream.flush().await?;
    Ok(true)
}
