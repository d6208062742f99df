/** `tidemark drain WORKER`: have a worker give back its units, or take that back. */
import { drainedSchema, memberIdSchema } from '../supervisor/http/api-schemas.ts';
import { defineCommand, EXIT, toggle, usageError } from './command.ts';
import { callSupervisor, urlOption } from './supervisor-client.ts';

export const drainCommand = defineCommand({
  name: 'drain',
  summary: 'have a worker finish, give back its units and take no new ones',
  arguments: '<worker>',
  options: { undo: toggle('let the worker take units again'), url: urlOption },
  example: 'tidemark drain worker-2 -c pipeline.yaml',
  run: async (context, { options, args }) => {
    const worker = args[0] ?? '';
    if (!memberIdSchema.safeParse(worker).success) {
      throw usageError(`"${worker}" is no worker's name; \`tidemark workers\` lists them.`);
    }
    const drained = await callSupervisor(context, options.url, {
      method: 'POST',
      path: `/v1/workers/${worker}/drain`,
      body: { draining: !options.undo },
      response: drainedSchema,
    });
    await context.terminal.result(drained, () =>
      drained.isDraining
        ? `${worker} commits what it has and gives back: ${drained.units.join(' ') || 'nothing'}.`
        : `${worker} takes units again.`,
    );
    return EXIT.ok;
  },
});
