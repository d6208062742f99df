/**
 * The commands that need no engine; main.ts adds those that do.
 */
import { checkpointLsCommand } from './checkpoint-ls.ts';
import { checkpointShowCommand } from './checkpoint-show.ts';
import type { Command } from './command.ts';
import { dlqLsCommand, dlqRetryCommand, dlqShowCommand } from './dlq.ts';
import { drainCommand } from './drain.ts';
import { drillCommand } from './drill.ts';
import { generateCommand } from './generate.ts';
import { initCommand } from './init.ts';
import { pauseCommand } from './pause.ts';
import { rebalanceCommand } from './rebalance.ts';
import { replayCommand } from './replay.ts';
import { reconcileCommand } from './reconcile.ts';
import { resumeCommand } from './resume.ts';
import { retentionApplyCommand } from './retention-apply.ts';
import { schemaApplyCommand, schemaCheckCommand, schemaShowCommand } from './schema.ts';
import { sqlCommand } from './sql.ts';
import { statusCommand } from './status.ts';
import { tableHistoryCommand } from './table-history.ts';
import { tableLsCommand } from './table-ls.ts';
import { tableOptimizeCommand } from './table-optimize.ts';
import { tableRestoreCommand } from './table-restore.ts';
import { tableVacuumCommand } from './table-vacuum.ts';
import { verifyCommand } from './verify.ts';
import { workersCommand } from './workers.ts';

/** In the order of the help. */
export const commands: readonly Command[] = [
  initCommand,
  generateCommand,
  statusCommand,
  verifyCommand,
  sqlCommand,
  reconcileCommand,
  tableLsCommand,
  tableHistoryCommand,
  tableOptimizeCommand,
  tableVacuumCommand,
  tableRestoreCommand,
  retentionApplyCommand,
  checkpointLsCommand,
  checkpointShowCommand,
  replayCommand,
  dlqLsCommand,
  dlqShowCommand,
  dlqRetryCommand,
  schemaShowCommand,
  schemaCheckCommand,
  schemaApplyCommand,
  workersCommand,
  rebalanceCommand,
  pauseCommand,
  resumeCommand,
  drainCommand,
  drillCommand,
];
