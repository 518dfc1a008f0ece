//! `backout.yaml` of several services, with short times.

/// What differs from test to test.
#[derive(Debug, Clone)]
pub struct Services {
    app: String,
    target: String,
    services: Vec<String>,
    health: Vec<String>,
    interval: &'static str,
    extra: Vec<String>,
}

impl Services {
    /// On this target: the whole value of `target`.
    pub fn on(target: &str) -> Self {
        Self {
            app: "shop".to_owned(),
            target: target.to_owned(),
            services: Vec::new(),
            health: Vec::new(),
            interval: "100ms",
            extra: Vec::new(),
        }
    }

    /// Programs that Backout supervises, which take their name, their version and a folder for notes.
    pub fn supervised(artifact: &str) -> Self {
        Self::on(&format!(
            "{{ process: {{ artifact: {artifact}, restart: {{ max: 1, within: 60s }} }} }}"
        ))
    }

    /// Another app than `shop`.
    #[must_use]
    pub fn app(self, app: &str) -> Self {
        Self { app: app.to_owned(), ..self }
    }

    /// One more service, with its keys.
    #[must_use]
    pub fn and(mut self, name: &str, keys: &str) -> Self {
        let keys = if keys.is_empty() { "{}".to_owned() } else { format!("{{ {keys} }}") };
        self.services.push(format!("  {name}: {keys}"));
        self
    }

    /// One more program, which is told its name, its version and the folder for notes.
    #[must_use]
    pub fn program(self, name: &str, keys: &str, notes: &std::path::Path) -> Self {
        let comma = if keys.is_empty() { "" } else { ", " };
        let command = format!(
            "command: [\"{{artifact}}\", {name}, \"{{version}}\", \"{}\"]",
            notes.display()
        );
        self.and(name, &format!("{keys}{comma}{command}"))
    }

    /// One more line under `health`.
    #[must_use]
    pub fn health(mut self, line: &str) -> Self {
        self.health.push(format!("  {line}"));
        self
    }

    /// Checks come so often while something is rolled out.
    #[must_use]
    pub fn every(self, interval: &'static str) -> Self {
        Self { interval, ..self }
    }

    /// Further top-level lines.
    #[must_use]
    pub fn extra(mut self, lines: &str) -> Self {
        self.extra.push(lines.trim_end().to_owned());
        self
    }

    /// The text.
    pub fn text(&self) -> String {
        let Self { app, target, services, health, interval, extra } = self;
        let mut lines = vec![format!("app: {app}"), format!("target: {target}")];
        if !services.is_empty() {
            lines.push("services:".to_owned());
            lines.extend(services.iter().cloned());
        }
        lines.push("health:".to_owned());
        lines.extend(health.iter().cloned());
        lines.push(format!("  during_rollout: {{ interval: {interval} }}"));
        lines.push("  consecutive_passes: 2\n  startup_timeout: 40s".to_owned());
        lines.push("shutdown: { drain: 1s, grace: 2s }\nbake_time: 300ms".to_owned());
        lines.extend(extra.iter().filter(|line| !line.is_empty()).cloned());
        lines.join("\n") + "\n"
    }
}
