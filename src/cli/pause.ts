/** `tidemark pause`: stop taking in new records. */
import { pausedSchema } from '../supervisor/http/api-schemas.ts';
import { defineCommand, EXIT } from './command.ts';
import { callSupervisor, urlOption } from './supervisor-client.ts';

export const pauseCommand = defineCommand({
  name: 'pause',
  summary: 'take in no new records; what was fetched is committed',
  options: { url: urlOption },
  example: 'tidemark pause -c pipeline.yaml',
  run: async (context, { options }) => {
    const answer = await callSupervisor(context, options.url, {
      method: 'POST',
      path: '/v1/pause',
      response: pausedSchema,
    });
    await context.terminal.result(
      answer,
      () => 'Workers take in no new records until `tidemark resume`.',
    );
    return EXIT.ok;
  },
});
