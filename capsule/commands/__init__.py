"""The commands of `capsule`, a module a topic. They import what they need when they run, so that --help is quick."""
