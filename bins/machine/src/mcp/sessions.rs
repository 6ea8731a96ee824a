//! Sessions in memory, bounded in number and in the time that they may be silent.

use std::time::Duration;

use futures::Stream;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError,
};
use rmcp::transport::streamable_http_server::session::{ServerSseMessage, SessionId, SessionManager};

/// Why a session did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionsError {
    /// As many as there may be.
    #[error(
        "there are {max} sessions already; they end when they are closed, or after a time without requests"
    )]
    Full {
        /// The limit in force.
        max: usize,
    },
    /// The session is not there, or its client is not.
    #[error("the session cannot be used")]
    Local(#[from] LocalSessionManagerError),
}

/// The sessions of one server.
#[derive(Debug)]
pub(crate) struct BoundedSessions {
    sessions: LocalSessionManager,
    max: usize,
    /// Counting and adding is one step.
    adding: tokio::sync::Mutex<()>,
}

impl BoundedSessions {
    pub(crate) fn new(max: usize, idle: Duration) -> Self {
        let mut sessions = LocalSessionManager::default();
        sessions.session_config.keep_alive = Some(idle);
        Self {
            sessions,
            max,
            adding: tokio::sync::Mutex::default(),
        }
    }
}

impl BoundedSessions {
    /// Whether no session can be added now.
    pub(crate) async fn is_full(&self) -> bool {
        self.sessions.sessions.read().await.len() >= self.max
    }
}

impl SessionManager for BoundedSessions {
    type Error = SessionsError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let _adding = self.adding.lock().await;
        if self.is_full().await {
            return Err(SessionsError::Full { max: self.max });
        }
        Ok(self.sessions.create_session().await?)
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        Ok(self.sessions.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        Ok(self.sessions.has_session(id).await?)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        Ok(self.sessions.close_session(id).await?)
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        Ok(self.sessions.create_stream(id, message).await?)
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        Ok(self.sessions.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        Ok(self.sessions.create_standalone_stream(id).await?)
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        Ok(self.sessions.resume(id, last_event_id).await?)
    }
}
