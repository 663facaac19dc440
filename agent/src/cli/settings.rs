//! Where the agent is and what its host is: the same for every command.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::policy::{self, AgentConfig, Diagnostics, PIN_DIR};

/// Where the agent's settings are unless `-c` says otherwise.
pub(crate) const CONFIG: &str = "/etc/bulkhead/agent.yaml";
/// Where the agent listens unless its settings say otherwise.
pub(crate) const SOCKET: &str = "/run/bulkhead/bulkhead.sock";

/// Options of every command.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Settings {
    /// The agent's settings [default: /etc/bulkhead/agent.yaml].
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The agent's socket [default: as its settings say, else /run/bulkhead/bulkhead.sock].
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

impl Settings {
    /// The path of the settings.
    pub(crate) fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(CONFIG))
    }

    /// The agent's settings, which must exist.
    pub(crate) fn agent(&self) -> Result<AgentConfig, Diagnostics> {
        policy::load_agent(self.path())
    }

    /// The agent's settings if `-c` names them or the default file is there.
    pub(crate) fn agent_if_any(&self) -> Result<Option<AgentConfig>, Diagnostics> {
        match self.config.is_some() || self.path().exists() {
            true => self.agent().map(Some),
            false => Ok(None),
        }
    }

    /// Where the agent keeps its pins.
    pub(crate) fn pin_dir(&self) -> Result<PathBuf> {
        Ok(self.agent_if_any()?.map_or_else(|| PathBuf::from(PIN_DIR), |agent| agent.pin_dir))
    }

    /// The agent's socket. A broken default file is no obstacle: the agent may run all the same.
    pub(crate) fn socket(&self) -> Result<PathBuf> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        match self.agent_if_any() {
            Ok(agent) => Ok(agent.map_or_else(|| PathBuf::from(SOCKET), |agent| agent.socket)),
            Err(_) if self.config.is_none() => Ok(PathBuf::from(SOCKET)),
            Err(problems) => Err(problems.into()),
        }
    }
}
