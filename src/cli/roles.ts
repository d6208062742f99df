/**
 * `tidemark supervisor`, `worker` and `writer`: one role per process, each scaled by its own count.
 * They find each other in Redis.
 */
import { untilAborted } from '../ambient.ts';
import { parseDurationMs } from '../config/quantity.ts';
import { hostProcess } from '../engine/host-process.ts';
import { PipelineProcess } from '../engine/pipeline-process.ts';
import { reportOf, type UpstreamDone } from '../engine/worker-messages.ts';
import type { HttpServer } from '../supervisor/http/http-server.ts';
import type { MemberRole } from '../supervisor/units.ts';
import { untilAvailable } from './availability.ts';
import {
  type Command,
  defineCommand,
  EXIT,
  type ExitCode,
  type OptionSpec,
  text,
  toggle,
  usageError,
} from './command.ts';
import type { CommandContext } from './context.ts';
import { serveHttp } from './serve-http.ts';
import { startUpkeep } from './upkeep.ts';

/** How often a worker reports to the `run` that started it, milliseconds. */
const REPORT_MS = 250;

const idOption = text('NAME', 'name of this process in the membership; default: a new one');

const graceOption: OptionSpec<string> = {
  value: 'SPAN',
  summary: 'how long units may take to finish when this process is asked to end',
  fallback: '25s',
  repeatable: false,
  parse: (given, _before, name) => {
    if (parseDurationMs(given) !== undefined) return given;
    throw usageError(`${name} takes a duration such as 25s or 2m; "${given}" is none.`);
  },
};

/**
 * Drains and closes within the grace, beyond which the process ends with what it has: nothing is
 * lost (P1), somebody else only repeats it.
 */
async function drain(
  { ambient, logger }: CommandContext,
  grace: string,
  close: () => Promise<void>,
): Promise<void> {
  const late = ambient.clock.after(parseDurationMs(grace)!, () => {
    logger.warn('the drain took longer than its grace; ending at once', { grace });
    process.exit(EXIT.unavailable);
  });
  try {
    await close();
  } finally {
    late.cancel();
  }
}

/** Opens a pipeline's process; embedded state has one owner and cannot be shared by processes. */
async function openShared(context: CommandContext): Promise<PipelineProcess> {
  const config = context.loadConfig();
  if (config.state.kind === 'embedded') {
    throw usageError(
      'One role per process needs `state: {kind: redis, ...}`; on the embedded state use `tidemark run`.',
    );
  }
  const { adapters, ambient, logger, terminal } = context;
  return untilAvailable(context, () =>
    PipelineProcess.open({ config, adapters, ambient, logger, process: hostProcess }, (remark) =>
      terminal.note(`warning: ${remark}`),
    ),
  );
}

const supervisorCommand = defineCommand({
  name: 'supervisor',
  summary: 'supervise workers and writers; serve REST, metrics and the web page',
  options: { id: idOption, grace: graceOption },
  example: 'tidemark supervisor -c pipeline.yaml',
  run: async (context, { options }): Promise<ExitCode> => {
    const pipeline = await openShared(context);
    const supervisorId = options.id ?? `supervisor-${context.ambient.ids.id().slice(0, 8)}`;
    const upkeep = startUpkeep(context, pipeline, { isScheduled: true });
    const close = async (): Promise<void> => {
      await upkeep.close();
      await pipeline.close();
    };
    let http: HttpServer;
    try {
      http = await serveHttp(context, pipeline, supervisorId, upkeep.reconciliation);
    } catch (thrown) {
      await close();
      throw thrown;
    }
    context.terminal.note(`supervisor ${supervisorId}: ${http.address}`);
    await untilAborted(context.signal);
    await drain(context, options.grace, async () => {
      await http.close();
      await close();
    });
    return EXIT.ok;
  },
});

function memberCommand(role: MemberRole, summary: string): Command {
  return defineCommand({
    name: role,
    summary,
    options: {
      id: idOption,
      grace: graceOption,
      ...(role === 'worker'
        ? { withWriters: toggle('also run silver and gold writers in this process') }
        : {}),
    },
    example: `tidemark ${role} -c pipeline.yaml`,
    run: async (context, { options }): Promise<ExitCode> => {
      const pipeline = await openShared(context);
      const nodeId = options.id ?? `${role}-${context.ambient.ids.id().slice(0, 8)}`;
      const withWriters = 'withWriters' in options && options.withWriters === true;
      const node = pipeline.startNode(nodeId, withWriters ? ['worker', 'writer'] : [role]);
      const parent = listenToParent(pipeline);
      while (!context.signal.aborted) {
        parent.report(node);
        await context.ambient.clock.sleep(REPORT_MS, context.signal);
      }
      await drain(context, options.grace, () => pipeline.close());
      parent.report(node);
      return EXIT.ok;
    },
  });
}

/** The channel to the `run` that started this process, if one did. Its end ends this process (PE1). */
function listenToParent(pipeline: PipelineProcess) {
  if (process.send !== undefined) {
    process.on('message', (message) => {
      if ((message as UpstreamDone).kind === 'upstream-done') pipeline.isUpstreamDone = true;
    });
  }
  return {
    report: (node: Parameters<typeof reportOf>[0]): void => {
      if (process.connected) process.send!(reportOf(node));
    },
  };
}

/** One role per process. */
export const roleCommands: readonly Command[] = [
  supervisorCommand,
  memberCommand('worker', 'read partitions into bronze'),
  memberCommand('writer', 'derive silver and gold'),
];
