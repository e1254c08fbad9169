//! The bounded queue of one device task. Whoever puts something in never waits: polls that do not fit are dropped,
//! commands are merged so that the newest wish wins, and what is pending of commands goes ahead of everything else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::site::{Command, CommandError};

/// Requests that wait at most.
pub const CAPACITY: usize = 16;

/// Where the answer to a command goes.
pub type Answer = oneshot::Sender<Result<(), CommandError>>;

/// What a device task is asked to do. `A` is a plugin, `B` a changed binding.
#[derive(Debug)]
pub enum Request<A, B> {
    /// Poll now, beside the task's own interval.
    Poll,
    /// A wish to the device. Several answers: commands that were merged into this one.
    Command(Command, Vec<Answer>),
    /// Another version of the plugin.
    Swap(A),
    /// The plugin's folder is gone.
    Lose(String),
    /// What lies in the plugin's folder now cannot be used, and why.
    Spoiled(String),
    /// A changed entry of the configuration.
    Reconfigure(B),
    /// A person ends a quarantine.
    Retry,
    /// Close the device; the last request a task serves.
    Stop(oneshot::Sender<()>),
}

/// A cloneable handle of the queue.
#[derive(Debug)]
pub struct Mailbox<A, B> {
    shared: Arc<Shared<A, B>>,
}

#[derive(Debug)]
struct Shared<A, B> {
    queue: Mutex<Queue<A, B>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Queue<A, B> {
    requests: VecDeque<Request<A, B>>,
    /// The task has ended and nobody will answer.
    closed: bool,
}

impl<A, B> Clone for Mailbox<A, B> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<A, B> Default for Mailbox<A, B> {
    fn default() -> Self {
        let queue = Mutex::new(Queue { requests: VecDeque::with_capacity(CAPACITY), closed: false });
        Self { shared: Arc::new(Shared { queue, arrived: Notify::new() }) }
    }
}

impl<A, B> Mailbox<A, B> {
    /// Puts a request in. False: the task has ended (a command is dropped, its sender sees a closed channel).
    pub fn push(&self, request: Request<A, B>) -> bool {
        let mut queue = self.lock();
        if queue.closed {
            return false;
        }
        queue.push(request);
        drop(queue);
        self.shared.arrived.notify_one();
        true
    }

    /// Hands in a command and waits for its answer. Cancel-safe; a command that nobody waits for is still carried
    /// out, because the newest wish must not get lost with an impatient caller.
    pub async fn command(&self, command: Command) -> Result<(), CommandError> {
        let gone = || CommandError::NotRunning("the device was removed".to_owned());
        let (answer, answered) = oneshot::channel();
        if !self.push(Request::Command(command, vec![answer])) {
            return Err(gone());
        }
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The next request: commands first, then in the order of arrival. Cancel-safe.
    pub async fn recv(&self) -> Request<A, B> {
        loop {
            let arrived = self.shared.arrived.notified();
            if let Some(request) = self.try_recv() {
                return request;
            }
            arrived.await;
        }
    }

    /// The next request, if one is waiting.
    pub fn try_recv(&self) -> Option<Request<A, B>> {
        let mut queue = self.lock();
        let first_command = queue.requests.iter().position(|r| matches!(r, Request::Command(..)));
        queue.requests.remove(first_command.unwrap_or(0))
    }

    /// Nothing is taken any more, what waits is dropped and its senders see it.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.requests.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue<A, B>> {
        // Every change of the queue is complete before anything could panic.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A, B> Queue<A, B> {
    fn push(&mut self, request: Request<A, B>) {
        use Request::{Command, Lose, Poll, Reconfigure, Retry, Spoiled, Swap};
        let request = match request {
            Command(command, answers) => return self.push_command(command, answers),
            // Of these the newest says all; the plugin's coming and going is one sequence.
            Swap(_) | Lose(_) => self.replace(request, |r| matches!(r, Swap(_) | Lose(_) | Spoiled(_))),
            // Does not hide a good plugin that was there before it.
            Spoiled(_) => self.replace(request, |r| matches!(r, Spoiled(_))),
            Reconfigure(_) => self.replace(request, |r| matches!(r, Reconfigure(_))),
            Retry => self.replace(request, |r| matches!(r, Retry)),
            Poll | Request::Stop(_) => request,
        };
        self.make_room();
        self.requests.push_back(request);
    }

    /// Removes what `request` makes superfluous.
    fn replace(&mut self, request: Request<A, B>, same: impl Fn(&Request<A, B>) -> bool) -> Request<A, B> {
        self.requests.retain(|waiting| !same(waiting));
        request
    }

    /// A command of the same kind as the last waiting one takes its place. Others queue, because their order means
    /// something (pause, switch phases, go on). When the mailbox is full the oldest of the same kind gives way.
    fn push_command(&mut self, command: Command, mut answers: Vec<Answer>) {
        let last = self.requests.iter_mut().rev().find_map(|request| match request {
            Request::Command(waiting, their_answers) => Some((waiting, their_answers)),
            _ => None,
        });
        if let Some((waiting, their_answers)) = last
            && same_kind(*waiting, command)
        {
            *waiting = command;
            their_answers.append(&mut answers);
            return;
        }
        self.make_room();
        if self.requests.len() >= CAPACITY {
            let oldest =
                self.requests.iter().position(|r| matches!(r, Request::Command(c, _) if same_kind(*c, command)));
            if let Some(Request::Command(_, mut theirs)) = oldest.and_then(|at| self.requests.remove(at)) {
                answers.append(&mut theirs);
            }
        }
        self.requests.push_back(Request::Command(command, answers));
    }

    /// Drops the oldest poll of a full queue.
    fn make_room(&mut self) {
        if self.requests.len() >= CAPACITY
            && let Some(poll) = self.requests.iter().position(|r| matches!(r, Request::Poll))
        {
            self.requests.remove(poll);
        }
    }
}

fn same_kind(a: Command, b: Command) -> bool {
    std::mem::discriminant(&a) == std::mem::discriminant(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestBox = Mailbox<u32, &'static str>;

    fn drain(mailbox: &TestBox) -> Vec<String> {
        std::iter::from_fn(|| mailbox.try_recv())
            .map(|request| match request {
                Request::Poll => "poll".to_owned(),
                Request::Command(command, answers) => format!("{command:?} x{}", answers.len()),
                Request::Swap(v) => format!("swap {v}"),
                Request::Lose(why) => format!("lose {why}"),
                Request::Spoiled(why) => format!("spoiled {why}"),
                Request::Reconfigure(b) => format!("reconfigure {b}"),
                Request::Retry => "retry".to_owned(),
                Request::Stop(_) => "stop".to_owned(),
            })
            .collect()
    }

    fn command(mailbox: &TestBox, command: Command) -> oneshot::Receiver<Result<(), CommandError>> {
        let (answer, answered) = oneshot::channel();
        assert!(mailbox.push(Request::Command(command, vec![answer])));
        answered
    }

    #[test]
    fn commands_go_first_and_the_newest_current_wins() {
        let mailbox = TestBox::default();
        mailbox.push(Request::Poll);
        mailbox.push(Request::Retry);
        let _answers: Vec<_> = [6_000, 8_000, 0].map(|ma| command(&mailbox, Command::Current(ma))).into();
        assert_eq!(drain(&mailbox), ["Current(0) x3", "poll", "retry"]);
    }

    #[test]
    fn the_order_of_different_kinds_is_kept() {
        let mailbox = TestBox::default();
        let script = [Command::Current(0), Command::Phases(3), Command::Phases(1), Command::Current(16_000)];
        let _answers: Vec<_> = script.into_iter().map(|c| command(&mailbox, c)).collect();
        assert_eq!(drain(&mailbox), ["Current(0) x1", "Phases(1) x2", "Current(16000) x1"]);
    }

    #[test]
    fn a_full_mailbox_drops_its_oldest_poll_and_keeps_the_rest() {
        let mailbox = TestBox::default();
        mailbox.push(Request::Retry);
        for _ in 0..40 {
            mailbox.push(Request::Poll);
        }
        mailbox.push(Request::Swap(1));
        let _answer = command(&mailbox, Command::WakeUp);
        let served = drain(&mailbox);
        assert_eq!(served.len(), CAPACITY);
        assert_eq!(served[..2], ["WakeUp x1", "retry"]);
        assert_eq!(served[CAPACITY - 1], "swap 1");
    }

    #[test]
    fn a_flood_of_alternating_commands_stays_bounded_and_ends_with_the_newest() {
        let mailbox = TestBox::default();
        let mut answers = Vec::new();
        for n in 0..50 {
            answers.push(command(&mailbox, Command::Current(n)));
            answers.push(command(&mailbox, Command::Phases(if n % 2 == 0 { 1 } else { 3 })));
        }
        let served = drain(&mailbox);
        assert_eq!(served.len(), CAPACITY);
        assert!(served[CAPACITY - 2].starts_with("Current(49)"), "{served:?}");
        assert!(served[CAPACITY - 1].starts_with("Phases(3)"), "{served:?}");
    }

    #[test]
    fn only_the_newest_plugin_and_binding_wait() {
        let mailbox = TestBox::default();
        mailbox.push(Request::Swap(1));
        mailbox.push(Request::Reconfigure("a"));
        mailbox.push(Request::Lose("gone".into()));
        mailbox.push(Request::Reconfigure("b"));
        mailbox.push(Request::Spoiled("cut off".into()));
        mailbox.push(Request::Swap(2));
        mailbox.push(Request::Spoiled("cut off again".into()));
        assert_eq!(drain(&mailbox), ["reconfigure b", "swap 2", "spoiled cut off again"]);
    }

    #[tokio::test]
    async fn a_closed_mailbox_answers_at_once() {
        let mailbox = TestBox::default();
        let waiting = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { mailbox.command(Command::Current(0)).await }
        });
        tokio::task::yield_now().await;
        mailbox.close();
        for result in [waiting.await.unwrap(), mailbox.command(Command::WakeUp).await] {
            assert_eq!(result, Err(CommandError::NotRunning("the device was removed".into())));
        }
    }
}
