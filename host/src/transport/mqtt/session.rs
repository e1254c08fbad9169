//! One life of a connection over either protocol version, so that the rest of the module speaks one language. Owns
//! the third-party client; decides nothing.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{QoS as QosV4, v5};
use v5::mqttbytes::QoS as QosV5;
use v5::mqttbytes::v5::{ConnectReturnCode as CodeV5, Packet as PacketV5, SubscribeReasonCode as SubscribeCodeV5};

use super::outbox::Outgoing;
use crate::config::BrokerUrl;
use crate::transport::Qos;

/// Silence after which the broker is asked whether it is there; twice that and the connection is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Packets above this size end the connection: nobody sends such a thing on purpose, and it must fit in memory.
/// Far above [`super::MAX_PAYLOAD`], so that a single large message costs that message only.
const MAX_PACKET: u32 = 16 * 1024 * 1024;

/// Requests handed to the client ahead of the wire. Small: what waits longer waits where newer measurements replace
/// older ones.
const AHEAD: usize = 64;

/// Messages of QoS 1 and 2 on their way without an answer.
const INFLIGHT: u16 = 64;

/// What happened on the wire.
#[derive(Debug)]
pub(super) enum Event {
    Connected,
    Message {
        topic: String,
        payload: Bytes,
        retained: bool,
    },
    /// A subscribe request got this packet id; in the order of the requests.
    Asked(u16),
    /// The answer to it: for each of its filters, whether the broker granted it.
    Answered(u16, Vec<bool>),
    Published,
    /// The last packet is out.
    Disconnected,
    Other,
}

/// Why a life ended.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    /// Protocol version 5 is probably what the broker did not like.
    pub(super) try_older: bool,
}

/// The sending half.
pub(super) enum Client {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// The half that owns the socket.
#[expect(clippy::large_enum_variant, reason = "there is one per connection")]
pub(super) enum Link {
    V4(rumqttc::EventLoop),
    V5(v5::EventLoop),
}

/// Prepares a life; nothing happens before [`Link::poll`].
pub(super) fn open(url: &BrokerUrl, client_id: &str, use_v5: bool, will: Option<Outgoing>) -> (Client, Link) {
    let bare = url.host.trim_start_matches('[').trim_end_matches(']');
    let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    if use_v5 {
        let mut options = v5::MqttOptions::new(client_id, host, url.port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_start(true).set_max_packet_size(Some(MAX_PACKET));
        options.set_outgoing_inflight_upper_limit(INFLIGHT).set_network_options(network);
        if let Some((user, password)) = &url.login {
            options.set_credentials(user, password);
        }
        if let Some(will) = will {
            let qos = qos_v5(will.qos);
            options.set_last_will(v5::mqttbytes::v5::LastWill::new(will.topic, will.payload, qos, will.retain, None));
        }
        let (client, link) = v5::AsyncClient::new(options, AHEAD);
        (Client::V5(client), Link::V5(link))
    } else {
        let mut options = rumqttc::MqttOptions::new(client_id, host, url.port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_inflight(INFLIGHT);
        options.set_max_packet_size(MAX_PACKET as usize, MAX_PACKET as usize);
        if let Some((user, password)) = &url.login {
            options.set_credentials(user, password);
        }
        if let Some(will) = will {
            options.set_last_will(rumqttc::LastWill::new(will.topic, will.payload, qos_v4(will.qos), will.retain));
        }
        let (client, mut link) = rumqttc::AsyncClient::new(options, AHEAD);
        link.set_network_options(network);
        (Client::V4(client), Link::V4(link))
    }
}

impl Client {
    /// Hands a message to the link; gives it back if the link has enough to do.
    pub(super) fn publish(&self, message: Outgoing) -> Result<(), Outgoing> {
        let Outgoing { topic, payload, qos, retain } = message;
        match self {
            Client::V4(client) => match client.try_publish(topic, qos_v4(qos), retain, payload) {
                Err(rumqttc::ClientError::Request(request) | rumqttc::ClientError::TryRequest(request)) => {
                    outgoing_v4(request).map_or(Ok(()), Err)
                }
                Ok(()) => Ok(()),
            },
            Client::V5(client) => match client.try_publish(topic, qos_v5(qos), retain, payload) {
                Err(v5::ClientError::Request(request) | v5::ClientError::TryRequest(request)) => {
                    outgoing_v5(request).map_or(Ok(()), Err)
                }
                Ok(()) => Ok(()),
            },
        }
    }

    /// Whether the link took the request.
    pub(super) fn subscribe(&self, filters: &[(String, Qos)]) -> bool {
        match self {
            Client::V4(client) => {
                let filters =
                    filters.iter().map(|(name, qos)| rumqttc::SubscribeFilter::new(name.clone(), qos_v4(*qos)));
                client.try_subscribe_many(filters).is_ok()
            }
            Client::V5(client) => {
                let filters = filters.iter().map(|(name, qos)| v5::mqttbytes::v5::Filter::new(name, qos_v5(*qos)));
                client.try_subscribe_many(filters).is_ok()
            }
        }
    }

    /// Whether the link took the request.
    pub(super) fn unsubscribe(&self, filter: &str) -> bool {
        match self {
            Client::V4(client) => client.try_unsubscribe(filter).is_ok(),
            Client::V5(client) => client.try_unsubscribe(filter).is_ok(),
        }
    }

    /// Whether the link took the request.
    pub(super) fn disconnect(&self) -> bool {
        match self {
            Client::V4(client) => client.try_disconnect().is_ok(),
            Client::V5(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl Link {
    /// Connects, or does the next thing on the wire. Not to be cancelled before it is ready, or a packet may be lost.
    pub(super) async fn poll(&mut self) -> Result<Event, Failure> {
        match self {
            Link::V4(link) => link.poll().await.map(event_v4).map_err(failure_v4),
            Link::V5(link) => link.poll().await.map(event_v5).map_err(failure_v5),
        }
    }

    /// What was read together with the last event. Saves a poll and its timers for each message.
    pub(super) fn next_buffered(&mut self) -> Option<Event> {
        match self {
            Link::V4(link) => link.state.events.pop_front().map(event_v4),
            Link::V5(link) => link.state.events.pop_front().map(event_v5),
        }
    }

    /// After the end: messages that were handed over and not acknowledged, in order.
    pub(super) fn unsent(&mut self) -> Vec<Outgoing> {
        match self {
            Link::V4(link) => {
                link.clean();
                let collided = link.state.collision.take().map(rumqttc::Request::Publish);
                link.pending.drain(..).chain(collided).filter_map(outgoing_v4).collect()
            }
            Link::V5(link) => {
                link.clean();
                let collided = link.state.collision.take().map(v5::Request::Publish);
                link.pending.drain(..).chain(collided).filter_map(outgoing_v5).collect()
            }
        }
    }
}

fn outgoing_v4(request: rumqttc::Request) -> Option<Outgoing> {
    let rumqttc::Request::Publish(publish) = request else { return None };
    let qos = from_v4(publish.qos);
    Some(Outgoing { topic: publish.topic, payload: publish.payload, qos, retain: publish.retain })
}

fn outgoing_v5(request: v5::Request) -> Option<Outgoing> {
    let v5::Request::Publish(publish) = request else { return None };
    let qos = match publish.qos {
        QosV5::AtMostOnce => Qos::AtMostOnce,
        QosV5::AtLeastOnce => Qos::AtLeastOnce,
        QosV5::ExactlyOnce => Qos::ExactlyOnce,
    };
    let topic = String::from_utf8_lossy(&publish.topic).into_owned();
    Some(Outgoing { topic, payload: publish.payload, qos, retain: publish.retain })
}

fn event_v4(event: rumqttc::Event) -> Event {
    use rumqttc::{Packet, SubscribeReasonCode};
    match event {
        rumqttc::Event::Incoming(Packet::Publish(publish)) => {
            Event::Message { topic: publish.topic, payload: publish.payload, retained: publish.retain }
        }
        rumqttc::Event::Incoming(Packet::ConnAck(_)) => Event::Connected,
        rumqttc::Event::Incoming(Packet::SubAck(ack)) => {
            let granted = ack.return_codes.iter().map(|code| matches!(code, SubscribeReasonCode::Success(_)));
            Event::Answered(ack.pkid, granted.collect())
        }
        rumqttc::Event::Outgoing(out) => outgoing_event(&out),
        rumqttc::Event::Incoming(_) => Event::Other,
    }
}

fn outgoing_event(out: &rumqttc::Outgoing) -> Event {
    match out {
        rumqttc::Outgoing::Subscribe(id) => Event::Asked(*id),
        rumqttc::Outgoing::Publish(_) => Event::Published,
        rumqttc::Outgoing::Disconnect => Event::Disconnected,
        _ => Event::Other,
    }
}

fn event_v5(event: v5::Event) -> Event {
    match event {
        v5::Event::Incoming(PacketV5::Publish(publish)) => {
            // Vec::from takes the bytes over where nobody else holds them; a topic that is no UTF-8 matches nothing.
            let topic = String::from_utf8(Vec::from(publish.topic)).unwrap_or_default();
            Event::Message { topic, payload: publish.payload, retained: publish.retain }
        }
        v5::Event::Incoming(PacketV5::ConnAck(_)) => Event::Connected,
        v5::Event::Incoming(PacketV5::SubAck(ack)) => {
            let granted = ack.return_codes.iter().map(|code| matches!(code, SubscribeCodeV5::Success(_)));
            Event::Answered(ack.pkid, granted.collect())
        }
        v5::Event::Outgoing(out) => outgoing_event(&out),
        v5::Event::Incoming(_) => Event::Other,
    }
}

fn failure_v4(error: rumqttc::ConnectionError) -> Failure {
    use rumqttc::{ConnectReturnCode as Code, ConnectionError as E, StateError};
    let text = match error {
        E::Io(error) => error.to_string(),
        E::NetworkTimeout => "no answer in time".to_owned(),
        E::FlushTimeout => "the broker takes nothing any more".to_owned(),
        E::ConnectionRefused(Code::BadUserNamePassword | Code::NotAuthorized) => {
            "the broker refuses the user name or the password".to_owned()
        }
        E::ConnectionRefused(code) => format!("the broker refuses the connection ({code:?})"),
        E::MqttState(StateError::ConnectionAborted) => "the broker closed the connection".to_owned(),
        E::MqttState(StateError::AwaitPingResp) => "the broker has gone silent".to_owned(),
        other => other.to_string(),
    };
    Failure { text, try_older: false }
}

fn failure_v5(error: v5::ConnectionError) -> Failure {
    use v5::{ConnectionError as E, StateError};
    let try_older = match &error {
        // A broker of version 3.1.1 answers with its own refusal, which cannot be parsed as version 5, or closes.
        E::MqttState(_) | E::NotConnAck(_) => true,
        E::ConnectionRefused(code) => matches!(
            code,
            CodeV5::RefusedProtocolVersion
                | CodeV5::UnsupportedProtocolVersion
                | CodeV5::MalformedPacket
                | CodeV5::ProtocolError
                | CodeV5::UnspecifiedError
                | CodeV5::ImplementationSpecificError
        ),
        _ => false,
    };
    let text = match error {
        E::Io(error) => error.to_string(),
        E::Timeout(_) => "no answer in time".to_owned(),
        E::ConnectionRefused(CodeV5::BadUserNamePassword | CodeV5::NotAuthorized) => {
            "the broker refuses the user name or the password".to_owned()
        }
        E::ConnectionRefused(code) => format!("the broker refuses the connection ({code:?})"),
        E::MqttState(StateError::ConnectionAborted) => "the broker closed the connection".to_owned(),
        E::MqttState(StateError::AwaitPingResp) => "the broker has gone silent".to_owned(),
        other => other.to_string(),
    };
    Failure { text, try_older }
}

fn qos_v4(qos: Qos) -> QosV4 {
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

fn qos_v5(qos: Qos) -> QosV5 {
    match qos {
        Qos::AtMostOnce => QosV5::AtMostOnce,
        Qos::AtLeastOnce => QosV5::AtLeastOnce,
        Qos::ExactlyOnce => QosV5::ExactlyOnce,
    }
}
