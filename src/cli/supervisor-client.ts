/**
 * The supervisor's REST API for commands: where it is, with which token, and its problems as errors.
 */
import type { z } from 'zod';
import { PipelineError } from '../errors.ts';
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import { type ApiAnswer, type ApiRequest, requestApi } from '../supervisor/http/api-request.ts';
import { problemSchema } from '../supervisor/http/api-schemas.ts';
import { untilAvailable } from './availability.ts';
import { type OptionSpec, text, usageError } from './command.ts';
import type { CommandContext } from './context.ts';

/** A supervisor that is starting or changing places is back within this. */
const PATIENCE_MS = 3_000;

/** `--url`, which every command of the API has. */
export const urlOption: OptionSpec<string | undefined> = text(
  'URL',
  'the supervisor; default: supervisor.http of the pipeline file',
);

/** One call. */
export interface SupervisorCall<Schema extends z.ZodType> extends ApiRequest {
  readonly response: Schema;
}

/**
 * Calls the supervisor of the command's pipeline, with TIDEMARK_TOKEN or the operator's token of the
 * pipeline file.
 * @throws PipelineError unavailable when nobody answers | invalid when it refuses
 */
export async function callSupervisor<Schema extends z.ZodType>(
  context: CommandContext,
  url: string | undefined,
  call: SupervisorCall<Schema>,
): Promise<z.output<Schema>> {
  const { http } = context.loadConfig().supervisor;
  const base = url === undefined ? addressOf(http) : requireUrl(url);
  const token = context.environment['TIDEMARK_TOKEN'] ?? ownToken(http, url);
  return untilAvailable(context, () => callOnce(context, base, token, call), PATIENCE_MS);
}

async function callOnce<Schema extends z.ZodType>(
  context: CommandContext,
  base: string,
  token: string | undefined,
  { response: schema, ...request }: SupervisorCall<Schema>,
): Promise<z.output<Schema>> {
  let answer: ApiAnswer;
  try {
    answer = await requestApi(base, request, { token, signal: context.signal });
  } catch (thrown) {
    throw new PipelineError(
      'unavailable',
      'TM_SERVICE_UNAVAILABLE',
      `no supervisor answers at ${base}; \`tidemark run\` and \`tidemark supervisor\` start one`,
      { cause: thrown },
    );
  }
  if (!answer.ok) throw refusalOf(answer.status, answer.document, token !== undefined);
  const parsed = schema.safeParse(answer.document);
  if (parsed.success) return parsed.data;
  throw usageError(`What answers at ${base} is no supervisor of this version of Tidemark.`);
}

function refusalOf(status: number, answer: unknown, hasToken: boolean): PipelineError {
  const problem = problemSchema.safeParse(answer);
  const detail = problem.success ? problem.data.detail : `it answered ${status}`;
  if (status === 401) {
    return usageError(
      hasToken
        ? 'The supervisor does not know this token; see TIDEMARK_TOKEN.'
        : 'The supervisor asks for a token; put it into TIDEMARK_TOKEN.',
    );
  }
  if (status === 503 || status === 429) {
    return new PipelineError('unavailable', 'TM_SERVICE_UNAVAILABLE', detail);
  }
  return usageError(`The supervisor refuses: ${detail}`);
}

function addressOf({ host, port }: PipelineConfig['supervisor']['http']): string {
  if (port === 0) {
    throw usageError('supervisor.http.port is 0, so that only its log knows it; give --url.');
  }
  // Who listens on every address listens on this one too.
  const name = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${name.includes(':') && !name.startsWith('[') ? `[${name}]` : name}:${port}`;
}

/** The file's own token goes to the file's own supervisor only. */
function ownToken(
  { tokens }: PipelineConfig['supervisor']['http'],
  url: string | undefined,
): string | undefined {
  return url === undefined ? tokens.find(({ role }) => role === 'operator')?.token : undefined;
}

function requireUrl(url: string): string {
  if (!/^https?:\/\/[^\s/?#@]+\/?$/.test(url) || !URL.canParse(url)) {
    throw usageError(`--url takes a URL such as http://127.0.0.1:8080; "${url}" is none.`);
  }
  return url.replace(/\/$/, '');
}
