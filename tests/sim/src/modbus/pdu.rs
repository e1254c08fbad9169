//! Requests and answers without their framing: functions 1-6, 15 and 16. Never touches a socket.

use super::{Answer, Table, Unit, exception};

/// An answer and which registers it is about.
pub(super) struct Handled {
    pub pdu: Vec<u8>,
    /// Table, first address, count, of a successful read.
    pub read: Option<(Table, u16, u16)>,
}

/// Lets `unit` answer `request`.
pub(super) fn handle(request: &[u8], unit: &dyn Unit) -> Handled {
    let function = request.first().copied().unwrap_or(0);
    match attempt(function, request, unit) {
        Ok(handled) => handled,
        Err(code) => refusal(function, code),
    }
}

/// The exception answer to `function`.
pub(super) fn refusal(function: u8, code: u8) -> Handled {
    Handled { pdu: vec![function | 0x80, code], read: None }
}

fn attempt(function: u8, request: &[u8], unit: &dyn Unit) -> Answer<Handled> {
    let address = word(request, 1);
    let second = word(request, 3);
    match function {
        1 | 2 => {
            let table = if function == 1 { Table::Coils } else { Table::Discrete };
            let (address, count) = counted(address, second, 2000)?;
            let bits = unit.read_bits(table, address, count)?;
            let bytes = pack(&bits);
            let mut pdu = vec![function, bytes.len() as u8];
            pdu.extend(bytes);
            Ok(Handled { pdu, read: Some((table, address, count)) })
        }
        3 | 4 => {
            let table = if function == 3 { Table::Holding } else { Table::Input };
            let (address, count) = counted(address, second, 125)?;
            let words = unit.read_words(table, address, count)?;
            let mut pdu = vec![function, (words.len() * 2) as u8];
            pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            Ok(Handled { pdu, read: Some((table, address, count)) })
        }
        5 => {
            let (address, value) = (address.ok_or(exception::VALUE)?, second.ok_or(exception::VALUE)?);
            let on = match value {
                0xFF00 => true,
                0 => false,
                _ => return Err(exception::VALUE),
            };
            unit.write_bits(address, &[on])?;
            Ok(echo(request))
        }
        6 => {
            unit.write_words(address.ok_or(exception::VALUE)?, &[second.ok_or(exception::VALUE)?])?;
            Ok(echo(request))
        }
        15 => {
            let (address, count) = counted(address, second, 1968)?;
            let data = payload(request, usize::from(count).div_ceil(8))?;
            let bits: Vec<bool> = (0..usize::from(count))
                .map(|n| data.get(n / 8).is_some_and(|byte| byte & (1 << (n % 8)) != 0))
                .collect();
            unit.write_bits(address, &bits)?;
            Ok(echo(request))
        }
        16 => {
            let (address, count) = counted(address, second, 123)?;
            let data = payload(request, usize::from(count) * 2)?;
            let words: Vec<u16> =
                data.chunks(2).map(|pair| pair.iter().fold(0, |word, byte| (word << 8) | u16::from(*byte))).collect();
            unit.write_words(address, &words)?;
            Ok(echo(request))
        }
        _ => Err(exception::FUNCTION),
    }
}

fn word(request: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*request.get(at)?, *request.get(at + 1)?]))
}

fn counted(address: Option<u16>, count: Option<u16>, most: u16) -> Answer<(u16, u16)> {
    let (address, count) = (address.ok_or(exception::VALUE)?, count.ok_or(exception::VALUE)?);
    if count == 0 || count > most {
        return Err(exception::VALUE);
    }
    if u32::from(address) + u32::from(count) > 0x1_0000 {
        return Err(exception::ADDRESS);
    }
    Ok((address, count))
}

fn payload(request: &[u8], expected: usize) -> Answer<&[u8]> {
    let announced = request.get(5).map(|n| usize::from(*n));
    let data = request.get(6..).unwrap_or_default();
    if announced == Some(expected) && data.len() == expected { Ok(data) } else { Err(exception::VALUE) }
}

fn echo(request: &[u8]) -> Handled {
    Handled { pdu: request.iter().take(5).copied().collect(), read: None }
}

fn pack(bits: &[bool]) -> Vec<u8> {
    bits.chunks(8)
        .map(|chunk| chunk.iter().enumerate().fold(0, |byte, (n, bit)| byte | (u8::from(*bit) << n)))
        .collect()
}
