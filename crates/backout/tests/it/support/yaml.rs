//! `backout.yaml` with short times.

/// What differs from test to test; the rest is a canary of a process behind the built-in router.
#[derive(Debug, Clone)]
pub struct Yaml {
    /// Under `target.process`, beside the command.
    pub process: String,
    /// The command.
    pub command: String,
    /// The whole value of `router`; empty for none.
    pub router: String,
    /// The whole value of `strategy`.
    pub strategy: String,
    /// The whole value of `bake_time`.
    pub bake: String,
    /// Limit of one check: long, so that a machine under load makes nobody look bad.
    pub check_timeout: String,
    /// Lines under `health`.
    pub health: String,
    /// Further top-level lines.
    pub extra: String,
}

impl Default for Yaml {
    fn default() -> Self {
        Self {
            process: "artifact: app, port: auto".to_owned(),
            command: r#"["{artifact}", "{version}"]"#.to_owned(),
            router: r#"{ builtin: { listen: "127.0.0.1:LISTEN" } }"#.to_owned(),
            strategy:
                "{ canary: { stages: [20, 60], hold: 400ms, hold_max: 3s, on_no_data: promote } }"
                    .to_owned(),
            bake: "1s".to_owned(),
            check_timeout: "8s".to_owned(),
            health: String::new(),
            extra: String::new(),
        }
    }
}

impl Yaml {
    /// All traffic at once.
    pub fn blue_green() -> Self {
        Self { strategy: "blue_green".to_owned(), ..Self::default() }
    }

    /// Old stops, new starts, behind the built-in router.
    pub fn recreate() -> Self {
        Self { strategy: "recreate".to_owned(), ..Self::default() }
    }

    /// Stages that only end by a request: for tests that act in the middle of one.
    pub fn long_hold() -> Self {
        Self {
            strategy: "{ canary: { stages: [50], hold: 10m, hold_max: 20m } }".to_owned(),
            ..Self::default()
        }
    }

    /// For tests in which a program hangs.
    #[must_use]
    pub fn impatient(self) -> Self {
        Self { check_timeout: "1s".to_owned(), ..self }
    }

    /// With another bake time.
    #[must_use]
    pub fn bake(self, bake: &str) -> Self {
        Self { bake: bake.to_owned(), ..self }
    }

    /// With further lines at the top level.
    #[must_use]
    pub fn extra(self, extra: &str) -> Self {
        Self { extra: format!("{}{extra}\n", self.extra), ..self }
    }

    /// The text, with `LISTEN` and `BIN` filled in.
    pub fn text(&self, listen: u16) -> String {
        let router = match self.router.as_str() {
            "" => String::new(),
            router => format!("router: {router}\n"),
        };
        let Self { process, command, strategy, bake, check_timeout, health, extra, .. } = self;
        format!(
            r#"app: shop
target: {{ process: {{ command: {command}, {process} }} }}
{router}strategy: {strategy}
health:
  http: {{ url: "http://127.0.0.1:{{port}}/health", timeout: {check_timeout} }}
  during_rollout: {{ interval: 100ms }}
  consecutive_passes: 2
  startup_timeout: 40s
{health}shutdown: {{ drain: 1s, grace: 2s }}
bake_time: {bake}
{extra}"#
        )
        .replace("LISTEN", &listen.to_string())
    }
}
