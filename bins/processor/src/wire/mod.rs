//! What goes over the wire: requests that are checked member by member, and answers.

mod answers;
mod choices;
mod lists;
mod names;
mod objects;
mod primitives;
mod requests;
mod schedules;
mod steps;
mod trees;
mod webhooks;

pub use answers::{
    Event, EventList, Evidence, HeadView, HeartbeatView, LeaseList, LeaseView, Message, MessageList,
    NextTasks, StreamedEvent, Task, TaskList,
};
pub use choices::{
    AcquireOutcome, CallChoice, CancelScope, ClaimOrderName, KeepChoice, OverlapChoice, PrimitiveName,
    ReturnChoice, SignalName,
};
pub use lists::{ListChildren, ListEvents, ListMessages, ListNames, ListTasks, StreamEvents};
pub use names::{
    CancelChoice, GatherChoice, Held, OrderName, RetryChoice, RoleName, StatusName, WireToolCall,
};
pub use objects::{CallObject, FenceBody, GetObject, ObjectHeadView, ObjectList, ObjectView, PutObjectBody};
pub use primitives::{
    AcquireGrant, AcquiredView, DeadlockView, DeclarePrimitive, GatheringView, GrantList, GrantView,
    LinkView, PrimitiveList, PrimitiveView, ReturnGrant, SignalPrimitive, WaiterView, WaitsView,
};
pub(crate) use requests::fence;
pub use requests::{
    AppendMessage, CancelTask, ClaimTasks, CompleteAndClaim, CompleteTask, CreateTask, FailTask, GatherTasks,
    HeartbeatTask, ReleaseTask, StopTask,
};
pub use schedules::{ConcurrencyBody, PlannedTask, PutSchedule, QueueWeight, ScheduleList, ScheduleView};
pub use steps::{ListTaskSteps, RecordStep, TaskStep, TaskStepList};
pub(crate) use trees::RootCursor;
pub use trees::{
    ImportInto, Imported, ListEndedRoots, Removed, RetireTrees, Retired, StatusMetrics, StoreMetrics,
};
pub use webhooks::{
    AttemptView, ChangeWebhook, CreateWebhook, DeliveryList, DeliveryView, FilterView, ListDeliveries,
    ListWebhooks, PingView, ReplayWebhook, RetryLetters, RotateKey, WebhookList, WebhookStateName,
    WebhookView, WebhookWithSecret,
};
