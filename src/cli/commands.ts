/**
 * The commands that need no engine; main.ts adds those that do.
 */
import type { Command } from './command.ts';
import { generateCommand } from './generate.ts';
import { initCommand } from './init.ts';
import { sqlCommand } from './sql.ts';
import { statusCommand } from './status.ts';
import { verifyCommand } from './verify.ts';

/** In the order of the help. */
export const commands: readonly Command[] = [
  initCommand,
  generateCommand,
  statusCommand,
  verifyCommand,
  sqlCommand,
];
