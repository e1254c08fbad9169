//! The packets of MQTT 3.1.1 and 5 in one language. The bytes of both versions are known here and nowhere else; the
//! codec is that of `rumqttc`. Pure.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes::{QoS as QosV4, v4};
use rumqttc::v5::mqttbytes::{QoS as QosV5, v5};

use super::outbox::Outgoing;
use super::topic;
use crate::transport::{Qos, ReplyTo};

/// Payloads up to this size are copied out of the buffer they were read into, so that a short message that waits
/// does not hold a long buffer.
const COPIED: usize = 4096;

/// What the broker publishes for us when we vanish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Will {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
}

/// What a client says when it comes.
#[derive(Clone, Debug)]
pub(super) struct Hello<'a> {
    pub(super) client_id: &'a str,
    pub(super) keep_alive_s: u16,
    pub(super) login: Option<&'a (String, String)>,
    pub(super) will: Option<&'a Will>,
}

/// What the broker answers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Welcome {
    Accepted(Limits),
    Refused {
        text: String,
        /// Protocol version 5 may be what the broker did not like.
        try_older: bool,
    },
}

/// What a broker of version 5 asks of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Messages of QoS 1 and 2 without an answer.
    pub(super) in_flight: Option<u16>,
    /// Bytes of one packet.
    pub(super) packet: Option<u32>,
    pub(super) keep_alive_s: Option<u16>,
}

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    /// Empty if it is no text; then no filter matches it.
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) retained: bool,
    /// The broker says that it may have sent this before.
    pub(super) dup: bool,
    /// 0 at QoS 0.
    pub(super) id: u16,
    pub(super) reply_to: Option<ReplyTo>,
}

/// A received packet. `refused` tells why the broker does not take a message (version 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Publish(Publish),
    PubAck {
        id: u16,
        refused: Option<String>,
    },
    PubRec {
        id: u16,
        refused: Option<String>,
    },
    PubRel(u16),
    PubComp(u16),
    /// For each filter of the request, whether the broker granted it.
    SubAck(u16, Vec<bool>),
    Pong,
    /// The broker ends the connection and says why.
    Disconnect(String),
    Other,
}

/// Takes one whole frame apart.
pub(super) fn decode(mut frame: BytesMut, version_5: bool) -> Result<Packet, String> {
    let kind = frame.first().copied().unwrap_or_default() >> 4;
    if kind == 3 {
        return publish(&mut frame, version_5).map(Packet::Publish);
    }
    let mut body = frame.freeze();
    body.advance(header_len(&body));
    let malformed = |_| format!("a packet of type {kind} is cut off");
    Ok(match kind {
        4 => {
            let (id, refused) = acknowledgement(&mut body).map_err(malformed)?;
            Packet::PubAck { id, refused }
        }
        5 => {
            let (id, refused) = acknowledgement(&mut body).map_err(malformed)?;
            Packet::PubRec { id, refused }
        }
        6 => Packet::PubRel(body.try_get_u16().map_err(malformed)?),
        7 => Packet::PubComp(body.try_get_u16().map_err(malformed)?),
        9 => {
            let id = body.try_get_u16().map_err(malformed)?;
            if version_5 {
                skip_properties(&mut body)?;
            }
            Packet::SubAck(id, body.iter().map(|code| *code < 0x80).collect())
        }
        13 => Packet::Pong,
        14 => {
            let code = body.first().copied().unwrap_or_default();
            Packet::Disconnect(format!("the broker ends the connection: {}", reason(code)))
        }
        11 => Packet::Other,
        _ => return Err(format!("a broker does not send packets of type {kind}")),
    })
}

/// Reads the broker's answer to CONNECT. An answer in the shape of 3.1.1 is understood under version 5 too: that is
/// how a broker which does not know version 5 refuses it.
pub(super) fn welcome(mut frame: BytesMut, version_5: bool) -> Result<Welcome, String> {
    let head = header_len(&frame);
    let (flags, code) = (frame.get(head), frame.get(head + 1));
    let (Some(0x20), Some(_), Some(code)) = (frame.first(), flags, code.copied()) else {
        return Err("the broker's first packet is no answer to CONNECT".to_owned());
    };
    let older_shape = frame.len() == head + 2;
    if code != 0 {
        return Ok(if older_shape && code < 0x80 { refused_v4(code) } else { refused_v5(code) });
    }
    if !version_5 {
        return Ok(Welcome::Accepted(Limits::default()));
    }
    if older_shape {
        return Err("the broker takes MQTT 5 and answers in 3.1.1".to_owned());
    }
    let v5::Packet::ConnAck(ack) = v5::Packet::read(&mut frame, None).map_err(|error| error.to_string())? else {
        return Err("the broker's first packet is no answer to CONNECT".to_owned());
    };
    let limits = ack.properties.map(|properties| Limits {
        in_flight: properties.receive_max,
        packet: properties.max_packet_size,
        keep_alive_s: properties.server_keep_alive,
    });
    Ok(Welcome::Accepted(limits.unwrap_or_default()))
}

/// MQTT 3.1.1, 3.2.2.3.
fn refused_v4(code: u8) -> Welcome {
    let (text, try_older) = match code {
        1 => ("the broker refuses this version of MQTT", true),
        2 => ("the broker refuses the client id", false),
        3 => ("the broker is not available at the moment", false),
        4 | 5 => (BAD_LOGIN, false),
        _ => ("the broker refuses the connection without a known reason", true),
    };
    Welcome::Refused { text: text.to_owned(), try_older }
}

/// MQTT 5, 3.2.2.2. What has nothing to do with the version is no reason to try another one.
fn refused_v5(code: u8) -> Welcome {
    match code {
        0x86 | 0x87 => Welcome::Refused { text: BAD_LOGIN.to_owned(), try_older: false },
        _ => {
            let try_older = !matches!(code, 0x85 | 0x88..=0x8A | 0x8C | 0x97 | 0x9C | 0x9D | 0x9F);
            Welcome::Refused { text: format!("the broker refuses the connection: {}", reason(code)), try_older }
        }
    }
}

const BAD_LOGIN: &str = "the broker refuses the user name or the password";

/// Reason codes of MQTT 5, 2.4, in words.
fn reason(code: u8) -> String {
    let text = match code {
        0x00 => "no reason given",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "this version of MQTT is not supported",
        0x85 => "the client id is not valid",
        0x87 => "not authorized",
        0x88 => "the broker is not available",
        0x89 => "the broker is busy",
        0x8A => "banned",
        0x8B => "the broker shuts down",
        0x8C => "bad authentication method",
        0x8D => "no packet came in time",
        0x8E => "another client came with the same client id",
        0x90 => "the topic is not accepted",
        0x91 => "the packet id is in use",
        0x93 => "too many messages without an answer",
        0x95 => "the packet is too large",
        0x97 => "a quota is used up",
        0x99 => "the payload has the wrong format",
        0x9A => "retained messages are not supported",
        0x9B => "the QoS is not supported",
        0x9C | 0x9D => "another broker is to be used",
        0x9F => "too many connections",
        _ => return format!("reason code 0x{code:02x}"),
    };
    text.to_owned()
}

fn acknowledgement(body: &mut Bytes) -> Result<(u16, Option<String>), bytes::TryGetError> {
    let id = body.try_get_u16()?;
    let code = body.first().copied().unwrap_or_default();
    Ok((id, (code >= 0x80).then(|| reason(code))))
}

/// Bytes of the fixed header of a whole frame.
fn header_len(frame: &[u8]) -> usize {
    let lengths = frame.get(1..).unwrap_or_default();
    1 + lengths.iter().take_while(|byte| **byte >= 0x80).count().min(3) + usize::from(!lengths.is_empty())
}

fn skip_properties(body: &mut Bytes) -> Result<(), String> {
    let mut length = 0usize;
    for shift in [0, 7, 14, 21] {
        let byte = body.try_get_u8().map_err(|_| "properties are cut off".to_owned())?;
        length |= usize::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            break;
        }
    }
    if length > body.len() {
        return Err("properties are longer than their packet".to_owned());
    }
    body.advance(length);
    Ok(())
}

fn publish(frame: &mut BytesMut, version_5: bool) -> Result<Publish, String> {
    let mut message = if version_5 {
        match v5::Packet::read(frame, None).map_err(|error| error.to_string())? {
            v5::Packet::Publish(publish) => Publish {
                // Vec::from takes the bytes over where nobody else holds them.
                topic: String::from_utf8(Vec::from(publish.topic)).unwrap_or_default(),
                payload: publish.payload,
                qos: from_v5(publish.qos),
                retained: publish.retain,
                dup: publish.dup,
                id: publish.pkid,
                reply_to: publish.properties.and_then(reply_to),
            },
            _ => return Err("this is no PUBLISH".to_owned()),
        }
    } else {
        match v4::Packet::read(frame, usize::MAX).map_err(|error| error.to_string())? {
            v4::Packet::Publish(publish) => Publish {
                topic: publish.topic,
                payload: publish.payload,
                qos: from_v4(publish.qos),
                retained: publish.retain,
                dup: publish.dup,
                id: publish.pkid,
                reply_to: None,
            },
            _ => return Err("this is no PUBLISH".to_owned()),
        }
    };
    if message.payload.len() <= COPIED {
        message.payload = Bytes::copy_from_slice(&message.payload);
    }
    Ok(message)
}

/// `None` without a response topic, or with one that cannot be published to (MQTT 5, 3.3.2.3.5).
fn reply_to(properties: v5::PublishProperties) -> Option<ReplyTo> {
    let topic = properties.response_topic?;
    match topic::check_topic(&topic) {
        Ok(()) => Some(ReplyTo { topic, correlation: properties.correlation_data }),
        Err(error) => {
            tracing::warn!(topic, %error, "a request names a response topic that cannot be answered to");
            None
        }
    }
}

/// Appends CONNECT.
pub(super) fn connect(out: &mut BytesMut, hello: &Hello<'_>, version_5: bool) -> Result<(), String> {
    let client_id = hello.client_id.to_owned();
    let packet = |error: String| format!("the greeting cannot be written: {error}");
    if version_5 {
        let connect = v5::Connect { keep_alive: hello.keep_alive_s, client_id, clean_start: true, properties: None };
        let will = hello.will.map(|will| v5::LastWill {
            topic: Bytes::copy_from_slice(will.topic.as_bytes()),
            message: will.payload.clone(),
            qos: QosV5::AtLeastOnce,
            retain: will.retain,
            properties: None,
        });
        let login = hello.login.cloned().map(|(username, password)| v5::Login { username, password });
        let whole = v5::Packet::Connect(connect, will, login);
        whole.write(out, None).map(drop).map_err(|error| packet(error.to_string()))
    } else {
        let mut connect = v4::Connect::new(client_id);
        connect.keep_alive = hello.keep_alive_s;
        connect.last_will = hello.will.map(|will| v4::LastWill {
            topic: will.topic.clone(),
            message: will.payload.clone(),
            qos: QosV4::AtLeastOnce,
            retain: will.retain,
        });
        connect.login = hello.login.cloned().map(|(username, password)| v4::Login { username, password });
        let whole = v4::Packet::Connect(connect);
        whole.write(out, usize::MAX).map(drop).map_err(|error| packet(error.to_string()))
    }
}

/// Appends PUBLISH; `id` is 0 at QoS 0.
pub(super) fn send(out: &mut BytesMut, message: &Outgoing, id: u16, version_5: bool) -> Result<(), String> {
    let (payload, retain) = (message.payload.clone(), message.retain);
    if version_5 {
        let properties = message.correlation.clone().map(|correlation| v5::PublishProperties {
            correlation_data: Some(correlation),
            ..v5::PublishProperties::default()
        });
        let topic = Bytes::copy_from_slice(message.topic.as_bytes());
        let publish = v5::Publish { dup: false, qos: to_v5(message.qos), retain, topic, pkid: id, payload, properties };
        v5::Packet::Publish(publish).write(out, None).map(drop).map_err(|error| error.to_string())
    } else {
        let topic = message.topic.clone();
        let publish = v4::Publish { dup: false, qos: to_v4(message.qos), retain, topic, pkid: id, payload };
        v4::Packet::Publish(publish).write(out, usize::MAX).map(drop).map_err(|error| error.to_string())
    }
}

/// Appends SUBSCRIBE.
pub(super) fn subscribe(out: &mut BytesMut, filters: &[(String, Qos)], id: u16, version_5: bool) -> Result<(), String> {
    if version_5 {
        let filters = filters.iter().map(|(name, qos)| v5::Filter::new(name, to_v5(*qos))).collect();
        let packet = v5::Packet::Subscribe(v5::Subscribe { pkid: id, filters, properties: None });
        packet.write(out, None).map(drop).map_err(|error| error.to_string())
    } else {
        let filters = filters.iter().map(|(name, qos)| v4::SubscribeFilter::new(name.clone(), to_v4(*qos))).collect();
        let packet = v4::Packet::Subscribe(v4::Subscribe { pkid: id, filters });
        packet.write(out, usize::MAX).map(drop).map_err(|error| error.to_string())
    }
}

/// Appends UNSUBSCRIBE.
pub(super) fn unsubscribe(out: &mut BytesMut, filter: &str, id: u16, version_5: bool) -> Result<(), String> {
    let filters = vec![filter.to_owned()];
    if version_5 {
        let packet = v5::Packet::Unsubscribe(v5::Unsubscribe { pkid: id, filters, properties: None });
        packet.write(out, None).map(drop).map_err(|error| error.to_string())
    } else {
        let packet = v4::Packet::Unsubscribe(v4::Unsubscribe { pkid: id, topics: filters });
        packet.write(out, usize::MAX).map(drop).map_err(|error| error.to_string())
    }
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP, the same in both versions where nothing went wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Ack = 0x40,
    Rec = 0x50,
    Rel = 0x62,
    Comp = 0x70,
}

/// Appends one of them.
pub(super) fn answer(out: &mut BytesMut, answer: Answer, id: u16) {
    out.put_slice(&[answer as u8, 2]);
    out.put_u16(id);
}

/// Appends PINGREQ.
pub(super) fn ping(out: &mut BytesMut) {
    out.put_slice(&[0xC0, 0]);
}

/// Appends DISCONNECT: we leave as planned, and the last will is not published.
pub(super) fn disconnect(out: &mut BytesMut) {
    out.put_slice(&[0xE0, 0]);
}

fn to_v4(qos: Qos) -> QosV4 {
    match qos {
        Qos::AtMostOnce => QosV4::AtMostOnce,
        Qos::AtLeastOnce => QosV4::AtLeastOnce,
        Qos::ExactlyOnce => QosV4::ExactlyOnce,
    }
}

fn from_v4(qos: QosV4) -> Qos {
    match qos {
        QosV4::AtMostOnce => Qos::AtMostOnce,
        QosV4::AtLeastOnce => Qos::AtLeastOnce,
        QosV4::ExactlyOnce => Qos::ExactlyOnce,
    }
}

fn to_v5(qos: Qos) -> QosV5 {
    match qos {
        Qos::AtMostOnce => QosV5::AtMostOnce,
        Qos::AtLeastOnce => QosV5::AtLeastOnce,
        Qos::ExactlyOnce => QosV5::ExactlyOnce,
    }
}

fn from_v5(qos: QosV5) -> Qos {
    match qos {
        QosV5::AtMostOnce => Qos::AtMostOnce,
        QosV5::AtLeastOnce => Qos::AtLeastOnce,
        QosV5::ExactlyOnce => Qos::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A whole frame around a body.
    fn frame(first: u8, body: &[u8]) -> BytesMut {
        let mut frame = BytesMut::from(&[first][..]);
        let mut left = body.len();
        while left >= 0x80 {
            frame.put_u8((left & 0x7F) as u8 | 0x80);
            left >>= 7;
        }
        frame.put_u8(left as u8);
        frame.extend_from_slice(body);
        frame
    }

    fn refusal(bytes: &[u8]) -> (String, bool) {
        match welcome(BytesMut::from(bytes), true) {
            Ok(Welcome::Refused { text, try_older }) => (text, try_older),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn b2_only_a_refusal_that_may_be_due_to_the_version_leads_to_the_older_one() {
        for (bytes, words, older) in [
            (&[0x20, 2, 0, 1][..], "version", true),
            (&[0x20, 2, 0, 2], "client id", false),
            (&[0x20, 2, 0, 3], "not available", false),
            (&[0x20, 2, 0, 4], "user name or the password", false),
            (&[0x20, 2, 0, 5], "user name or the password", false),
            (&[0x20, 3, 0, 0x81, 0], "malformed", true),
            (&[0x20, 3, 0, 0x84, 0], "version", true),
            (&[0x20, 2, 0, 0x84], "version", true),
            (&[0x20, 3, 0, 0x86, 0], "user name or the password", false),
            (&[0x20, 3, 0, 0x87, 0], "user name or the password", false),
            (&[0x20, 3, 0, 0x89, 0], "busy", false),
            (&[0x20, 3, 0, 0xEE, 0], "0xee", true),
        ] {
            let (text, try_older) = refusal(bytes);
            assert!(text.contains(words) && try_older == older, "{bytes:?}: {text}");
        }
        let accepted = welcome(BytesMut::from(&[0x20, 6, 0, 0, 3, 0x21, 0, 10][..]), true);
        assert_eq!(accepted, Ok(Welcome::Accepted(Limits { in_flight: Some(10), ..Limits::default() })));
        for strange in [&[0x20, 2, 0, 0][..], &[0x30, 2, 0, 0], &[0x20, 0], &[0x20, 1, 0]] {
            assert!(welcome(BytesMut::from(strange), true).is_err(), "{strange:?}");
        }
    }

    proptest! {
        /// Whatever a broker sends is a packet or an error.
        #[test]
        fn no_bytes_panic(first: u8, body in prop::collection::vec(any::<u8>(), 0..300), version_5: bool) {
            let _ = decode(frame(first, &body), version_5);
            let _ = decode(frame(0x30 | first & 7, &body), version_5);
            let _ = welcome(frame(0x20, &body), version_5);
            // A topic that is right, and properties that are random.
            let mut publish = vec![0, 1, b'a', 0, 7];
            publish.extend_from_slice(&body);
            let _ = decode(frame(0x32, &publish), version_5);
        }

        #[test]
        fn what_is_sent_reads_back(topic in "[a-zäß/]{1,200}", payload in prop::collection::vec(any::<u8>(), 0..10_000), id in 1u16.., second: bool, retain: bool, version_5: bool) {
            let qos = if second { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
            let mut out = BytesMut::new();
            send(&mut out, &Outgoing::new(topic.clone(), payload.clone().into(), qos, retain), id, version_5).unwrap();
            let expected = Publish { topic, payload: payload.into(), qos, retained: retain, dup: false, id, reply_to: None };
            prop_assert_eq!(decode(out, version_5), Ok(Packet::Publish(expected)));
        }
    }
}
