#!/usr/bin/env node
/**
 * Starts src/main.ts on Node 24 or newer: on the Node that runs this, or else on the project's own
 * (the npm package `node`), so that `npx tidemark` works whichever Node is installed.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as module from 'node:module';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';

const NODE_MAJOR_MIN = 24;

/** @param {string} path below the package */
const inPackage = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

const main = [inPackage('src/main.ts'), inPackage('dist/src/main.js')].find(existsSync);
const ownNode = inPackage('node_modules/node/bin/node');

if (main === undefined) {
  console.error('Tidemark is not complete here: src/main.ts is missing.');
  process.exitCode = 2;
} else if (Number.parseInt(process.versions.node, 10) >= NODE_MAJOR_MIN) {
  // Types are stripped and code is compiled once, not at every start.
  const { directory } = module.enableCompileCache();
  // Worker processes start from src/main.ts: with the cache they take half the time, and so does a recovery.
  if (directory !== undefined) process.env.NODE_COMPILE_CACHE ??= directory;
  await import(main);
} else if (existsSync(ownNode)) {
  // The channel ends with this process, however it ends, and with it the other one (PE1).
  const stdio = ['inherit', 'inherit', 'inherit', 'ipc'];
  const child = spawn(ownNode, process.argv.slice(1), { stdio });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    // A terminal sends Ctrl-C to both of us.
    process.on(signal, () =>
      signal === 'SIGINT' && process.stdin.isTTY ? undefined : child.kill(signal),
    );
  }
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
  });
} else {
  console.error(
    `Tidemark needs Node ${NODE_MAJOR_MIN} or newer; this is ${process.versions.node}. ` +
      'Run `npm ci` in its folder, which brings a Node of its own.',
  );
  process.exitCode = 2;
}
