//! What the rest of the host holds of a connection to a broker.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::outbox::Outgoing;
use super::packet::Will;
use super::shared::Shared;
use super::status::BrokerState;
use super::{MAX_PAYLOAD, topic};
use crate::transport::{Inbox, MqttError, Qos, ReplyTo};

/// Messages that may wait in order for one broker.
const MAX_ORDERED: usize = 1024;

/// A shared connection; cheap to clone. It is closed some seconds after the last handle and the last inbox that was
/// subscribed through it are gone.
#[derive(Clone)]
pub struct MqttConnection {
    shared: Arc<Shared>,
    /// Its drop tells the registry to look whether the connection is still needed.
    _user: Arc<dyn Send + Sync>,
}

impl MqttConnection {
    pub(in crate::transport) fn new(shared: Arc<Shared>, user: Arc<dyn Send + Sync>) -> Self {
        Self { shared, _user: user }
    }

    /// Messages of `filter` go into `inbox` until every other handle of the inbox is dropped, across reconnects.
    /// They carry `endpoint` as their name and their topic without `strip_prefix` and the slash behind it.
    /// Returns when the request is queued; [`MqttConnection::acknowledged`] tells when the broker has it.
    /// Where several filters of one connection match a message, a broker may send it once for each (MQTT 3.1.1,
    /// 3.3.5); the copies are dropped.
    /// A later reader of the same filter makes the broker send its retained messages once more to all its readers.
    ///
    /// # Errors
    /// [`MqttError::Denied`] if `filter` is no MQTT filter.
    pub async fn subscribe(
        &self,
        filter: &str,
        qos: Qos,
        endpoint: &str,
        strip_prefix: &str,
        inbox: Inbox,
    ) -> Result<(), MqttError> {
        topic::check_filter(filter).map_err(MqttError::Denied)?;
        self.shared.routes().add(filter, qos, endpoint, strip_prefix, inbox.downgrade());
        self.shared.start();
        Ok(())
    }

    /// Publishes a measurement at QoS 0. Never waits and never fails: while the broker is slow or away, the newest
    /// message of each topic waits. A topic with a wildcard or a payload above [`MAX_PAYLOAD`] is dropped and logged.
    pub fn publish_latest(&self, topic: impl Into<String>, payload: impl Into<Bytes>, retain: bool) {
        let message = Outgoing::new(topic.into(), payload.into(), Qos::AtMostOnce, retain);
        if let Err(error) = check_outgoing(&message) {
            tracing::warn!(broker = %self.shared.url, topic = message.topic, %error, "message not published");
            return;
        }
        self.shared.outbox().push_latest(message);
        self.shared.start();
    }

    /// Publishes a message that keeps its order. Returns when it is queued. At QoS 0 it is refused while the broker
    /// is away; at QoS 1 and 2 it waits for the broker.
    ///
    /// # Errors
    /// [`MqttError::Denied`]: no topic. [`MqttError::Limit`]: the payload is larger than [`MAX_PAYLOAD`].
    /// [`MqttError::Unreachable`]: QoS 0 and no connection, or too many messages wait already.
    pub async fn publish(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Bytes>,
        qos: Qos,
        retain: bool,
    ) -> Result<(), MqttError> {
        let message = Outgoing::new(topic.into(), payload.into(), qos, retain);
        self.queue(message, qos == Qos::AtMostOnce).await
    }

    /// Publishes at QoS 1 and resolves when the broker has acknowledged exactly this message. While the broker is
    /// away the message waits; one that was on its way when the connection was lost is sent again, so the broker may
    /// get it twice, never not at all.
    ///
    /// The message is queued by the call itself, not by the first poll: messages go out in the order of the calls,
    /// also when several futures are in flight. Dropping the future withdraws the message unless it is on its way
    /// already. How many wait is bounded by the caller alone, who holds a future for each.
    ///
    /// # Errors
    /// [`MqttError::Denied`]: no topic, or the broker does not take the message (MQTT 5: an error code in its
    /// acknowledgement). [`MqttError::Limit`]: the payload is larger than [`MAX_PAYLOAD`] or than the broker takes.
    /// [`MqttError::Unreachable`]: the connection is being closed; whether the broker has the message is not known.
    #[must_use = "the broker may not have the message before this resolves"]
    pub fn publish_acknowledged(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Bytes>,
        retain: bool,
    ) -> Acknowledgement {
        let message = Outgoing::new(topic.into(), payload.into(), Qos::AtLeastOnce, retain);
        Acknowledgement { waiting: self.queue_acknowledged(message), connection: self.clone() }
    }

    fn queue_acknowledged(&self, mut message: Outgoing) -> Result<Waiting, MqttError> {
        check_outgoing(&message)?;
        let (done, waiting) = oneshot::channel();
        message.done = Some(done);
        {
            // Who closes the connection says so first and drops what waits afterwards, under the same lock.
            let mut outbox = self.shared.outbox();
            if self.shared.is_closing() {
                return Err(self.closed());
            }
            outbox.push_ordered(message);
        }
        self.shared.start();
        Ok(waiting)
    }

    fn closed(&self) -> MqttError {
        MqttError::Unreachable(format!("the connection to {} is closed", self.shared.url))
    }

    /// Answers a request at QoS 0, in order with other messages: on its response topic, and over MQTT 5 with its
    /// correlation data. Returns when the answer is queued. At QoS 1 callers in a row would each wait 40 ms more at a
    /// broker that collects small packets, behind its acknowledgement of the answer before.
    ///
    /// # Errors
    /// [`MqttError::Unreachable`]: there is no connection at the moment; the request is as lost as its connection.
    /// [`MqttError::Denied`]: no topic. [`MqttError::Limit`]: the payload is larger than [`MAX_PAYLOAD`].
    pub async fn reply(&self, to: &ReplyTo, payload: impl Into<Bytes>) -> Result<(), MqttError> {
        let mut message = Outgoing::new(to.topic.clone(), payload.into(), Qos::AtMostOnce, false);
        message.correlation.clone_from(&to.correlation);
        self.queue(message, true).await
    }

    /// Queues in order; waits for room. `only_connected`: an error instead of waiting for the broker.
    async fn queue(&self, message: Outgoing, only_connected: bool) -> Result<(), MqttError> {
        check_outgoing(&message)?;
        self.shared.start();
        loop {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let down = self.down_reason();
            {
                let mut outbox = self.shared.outbox();
                if self.shared.is_closing() {
                    return Err(self.closed());
                }
                let full = outbox.ordered_len() >= MAX_ORDERED;
                match down {
                    Some(reason) if only_connected => return Err(MqttError::Unreachable(reason)),
                    Some(reason) if full => {
                        let text = format!("{reason}; {MAX_ORDERED} messages wait already");
                        return Err(MqttError::Unreachable(text));
                    }
                    None if full => {}
                    _ => {
                        outbox.push_ordered(message);
                        break;
                    }
                }
            }
            room.await;
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    fn down_reason(&self) -> Option<String> {
        match &*self.shared.state.borrow() {
            BrokerState::Connected { .. } => None,
            BrokerState::Connecting => Some(format!("{} is not connected yet", self.shared.url)),
            BrokerState::Down(reason) => Some(reason.clone()),
        }
    }

    /// How the connection stands, now and later.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<BrokerState> {
        self.shared.start();
        self.shared.state.subscribe()
    }

    /// Waits until the connection is up and the broker has answered every subscription made so far. A refusal is an
    /// answer too; it is logged and stands in [`super::BrokerStatus::refused_filters`].
    pub async fn acknowledged(&self) {
        self.shared.start();
        loop {
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let connected = matches!(*self.shared.state.borrow(), BrokerState::Connected { .. });
            if connected && self.shared.routes().all_answered() {
                return;
            }
            progress.await;
        }
    }

    /// What the broker publishes for us when we vanish (QoS 1). Best before the first use of the connection; later
    /// it costs one reconnect.
    pub fn set_last_will(&self, topic: impl Into<String>, payload: impl Into<Bytes>, retain: bool) {
        self.shared.set_will(Will { topic: topic.into(), payload: payload.into(), retain });
    }

    /// The URL without the password.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.url.to_string()
    }
}

type Waiting = oneshot::Receiver<Result<(), MqttError>>;

/// See [`MqttConnection::publish_acknowledged`].
pub struct Acknowledgement {
    waiting: Result<Waiting, MqttError>,
    /// Keeps the connection open.
    connection: MqttConnection,
}

impl Future for Acknowledgement {
    type Output = Result<(), MqttError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.waiting {
            Ok(waiting) => ready!(Pin::new(waiting).poll(context)),
            Err(error) => return Poll::Ready(Err(error.clone())),
        };
        Poll::Ready(answer.unwrap_or_else(|_| Err(self.connection.closed())))
    }
}

fn check_outgoing(message: &Outgoing) -> Result<(), MqttError> {
    topic::check_topic(&message.topic).map_err(MqttError::Denied)?;
    if message.payload.len() > MAX_PAYLOAD {
        let (topic, bytes) = (&message.topic, message.payload.len());
        return Err(MqttError::Limit(format!("{bytes} bytes for `{topic}`; at most {MAX_PAYLOAD} are published")));
    }
    Ok(())
}
