mod arbitrary;
mod examples;
mod hosts;
mod loading;
mod refused;
