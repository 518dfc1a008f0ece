//! Several at once on one environment, holders that were stopped, and clocks that were set.

pub mod clock;
pub mod stopped;
mod together;

use crate::support::World;

/// A script that counts its changing calls, and stages.
pub fn stages(hold: &str) -> World {
    let world = crate::sweep::scene_of("script stages deploy").prepared();
    hold_for(&world, hold);
    world
}

/// From now on, stages take that long.
fn hold_for(world: &World, hold: &str) {
    let yaml: Vec<String> = world
        .read("backout.yaml")
        .lines()
        .map(|line| match line.strip_prefix("strategy:") {
            Some(_) => format!(
                "strategy: {{ canary: {{ stages: [50], hold: {hold}, hold_max: 30m, on_no_data: promote }} }}"
            ),
            None => line.to_owned(),
        })
        .collect();
    world.write("backout.yaml", &yaml.join("\n"));
}

/// Calls of the script that changed something, so far.
fn calls(world: &World) -> usize {
    world.read("calls").lines().count()
}
