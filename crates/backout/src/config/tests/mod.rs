mod arbitrary;
mod examples;
mod loading;
mod refused;
