/**
 * The commands that need no engine; main.ts adds those that do.
 */
import type { Command } from './command.ts';
import { drainCommand } from './drain.ts';
import { generateCommand } from './generate.ts';
import { initCommand } from './init.ts';
import { pauseCommand } from './pause.ts';
import { rebalanceCommand } from './rebalance.ts';
import { resumeCommand } from './resume.ts';
import { sqlCommand } from './sql.ts';
import { statusCommand } from './status.ts';
import { verifyCommand } from './verify.ts';
import { workersCommand } from './workers.ts';

/** In the order of the help. */
export const commands: readonly Command[] = [
  initCommand,
  generateCommand,
  statusCommand,
  verifyCommand,
  sqlCommand,
  workersCommand,
  rebalanceCommand,
  pauseCommand,
  resumeCommand,
  drainCommand,
];
