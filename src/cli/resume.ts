/** `tidemark resume`: take in records again. */
import { pausedSchema } from '../supervisor/http/api-schemas.ts';
import { defineCommand, EXIT } from './command.ts';
import { callSupervisor, urlOption } from './supervisor-client.ts';

export const resumeCommand = defineCommand({
  name: 'resume',
  summary: 'take in records again after a pause',
  options: { url: urlOption },
  example: 'tidemark resume -c pipeline.yaml',
  run: async (context, { options }) => {
    const answer = await callSupervisor(context, options.url, {
      method: 'POST',
      path: '/v1/resume',
      response: pausedSchema,
    });
    await context.terminal.result(answer, () => 'Workers take in records again.');
    return EXIT.ok;
  },
});
