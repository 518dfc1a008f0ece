//! Standing controllers of a world.

use serde_json::Value;

use super::background::Background;
use super::world::World;
use super::{wait_for, wait_until};

impl World {
    /// Starts a controller, and waits until others see it.
    #[track_caller]
    pub fn controller(&self) -> Background {
        self.controller_with(&[])
    }

    /// The same with further variables.
    #[track_caller]
    pub fn controller_with(&self, env: &[(&str, &str)]) -> Background {
        let mut command = self.command(&["serve", "--headless", "--format", "json"]);
        command.envs(env.iter().copied());
        let mut controller = self.spawn_command(command);
        wait_until("the controller to stand by", || {
            assert!(controller.runs(), "{}", controller.stderr());
            controller.says("the ledger knows this controller")
        });
        controller
    }

    /// `deploy --detach`.
    #[track_caller]
    pub fn ordered(&self, version: &str) -> super::Ran {
        self.run(&["deploy", "--version", version, "--yes", "--detach", "--format", "json"])
    }

    /// Waits until nothing but controllers runs here.
    #[track_caller]
    pub fn expect_nothing_but_the_controller(&self) {
        wait_until("the end of the last process", || {
            self.processes().iter().all(|process| process.has("serve"))
        });
    }

    /// Waits until nothing is open and nobody holds the environment.
    #[track_caller]
    pub fn wait_for_rest(&self) -> Value {
        wait_for("nothing to be under way", || {
            let status = self.status();
            (status["operation"] == Value::Null).then_some(status)
        })
    }

    /// Waits until a deployment has one of these statuses.
    #[track_caller]
    pub fn wait_for_status(&self, number: u64, statuses: &[&str]) -> Value {
        wait_for(&format!("#{number} to be {statuses:?}"), || {
            let row = self.history().into_iter().find(|row| row["number"] == number)?;
            let status = row["status"].as_str()?;
            statuses.contains(&status).then(|| row.clone())
        })
    }
}

impl Background {
    /// Whether a line of its log holds these words.
    pub fn says(&self, words: &str) -> bool {
        self.stderr().contains(words)
    }

    /// Lines of its log with these words, as JSON.
    pub fn lines(&self, words: &str) -> Vec<Value> {
        let text = self.stderr();
        let lines = text.lines().filter(|line| line.contains(words));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
