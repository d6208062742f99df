/**
 * `tidemark init DIR`: the API usage example as a new pipeline to edit.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { PipelineError } from '../errors.ts';
import { defineCommand, EXIT, usageError } from './command.ts';

const EXAMPLE = join('examples', 'api-usage-events', 'tidemark.yaml');
const SCHEMA = join('schema', 'pipeline.schema.json');

export const initCommand = defineCommand({
  name: 'init',
  summary: 'write a new pipeline to edit',
  arguments: '<dir>',
  options: {},
  example: 'tidemark init my-pipeline',
  async run(context, { args }) {
    const folder = resolve(context.cwd, args[0]!);
    const package_ = packageRoot();
    const files = {
      'tidemark.yaml': readFileSync(join(package_, EXAMPLE), 'utf8').replace(
        '../../schema/pipeline.schema.json',
        './pipeline.schema.json',
      ),
      'pipeline.schema.json': readFileSync(join(package_, SCHEMA), 'utf8'),
      '.gitignore': 'tidemark-data/\n',
    };
    const taken = Object.keys(files).find((name) => existsSync(join(folder, name)));
    if (taken !== undefined) {
      throw usageError(`${join(args[0]!, taken)} is there already; name another folder.`);
    }
    try {
      mkdirSync(folder, { recursive: true });
      for (const [name, text] of Object.entries(files)) {
        writeFileSync(join(folder, name), text, { flag: 'wx' });
      }
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
      throw new PipelineError('invalid', 'TM_USAGE', `${args[0]!} cannot be written (${code}).`, {
        cause,
      });
    }
    const shown = relative(context.cwd, folder) || '.';
    await context.terminal.result({ folder, files: Object.keys(files) }, () =>
      [
        `Wrote ${Object.keys(files).join(', ')} to ${shown}.`,
        'Next:',
        ...(shown === '.' ? [] : [`  cd ${shown}`]),
        '  npx tidemark generate -c tidemark.yaml --events 10000',
        '  npx tidemark run --until-caught-up',
        '  npx tidemark sql "SELECT * FROM gold.api_usage_hourly LIMIT 10"',
      ].join('\n'),
    );
    return EXIT.ok;
  },
});

/** The folder of package.json, also when the code runs from dist/. */
function packageRoot(): string {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}
