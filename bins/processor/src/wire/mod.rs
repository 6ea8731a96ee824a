//! What goes over the wire: requests that are checked member by member, and answers.

mod answers;
mod lists;
mod names;
mod requests;

pub use answers::{
    Event, EventList, Evidence, HeadView, HeartbeatView, LeaseList, LeaseView, Message, MessageList,
    StreamedEvent, Task, TaskList,
};
pub use lists::{ListChildren, ListEvents, ListMessages, ListTasks, StreamEvents};
pub use names::{
    CancelChoice, GatherChoice, Held, OrderName, RetryChoice, RoleName, StatusName, WireToolCall,
};
pub(crate) use requests::fence;
pub use requests::{
    AppendMessage, CancelTask, ClaimTasks, CompleteTask, CreateTask, FailTask, GatherTasks, HeartbeatTask,
    ReleaseTask, StopTask,
};
