#!/usr/bin/env node
// npm's solc for many compilations: a line of standard JSON in, a line of standard JSON out, until the input ends. The
// compiler starts once, and becomes faster with every use. All sources come with the request.
"use strict";

const readline = require("node:readline");

// solc-js prints to stdout, where only the compiler's JSON may go.
console.log = console.error;
const solc = require("solc");

// Who asked may have ended in the meantime.
process.stdout.on("error", () => process.exit(1));
readline.createInterface({ input: process.stdin }).on("line", (line) => process.stdout.write(solc.compile(line) + "\n"));
