# Shortcuts; every recipe is one command that works without just, too.

# Lists the recipes.
default:
    @just --list

# Everything that must hold before a change goes in.
test *ARGS:
    cargo xtask test {{ARGS}}

# The rules of the house that clippy does not know.
tidy:
    cargo xtask tidy

# Writes the generated files.
docs:
    cargo xtask docs

# Measures against the tools people use today.
bench *ARGS:
    cargo xtask bench {{ARGS}}

# Formats the code.
fmt:
    cargo fmt --all

# Two deployments, a bad third one, and the way back, on this machine only.
demo:
    cargo run --release -- demo
