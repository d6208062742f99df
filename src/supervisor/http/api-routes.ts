/**
 * The routes below /v1: one table that the server registers and the OpenAPI document describes, so
 * that the two cannot differ.
 */
import { z } from 'zod';
import {
  assignmentsSchema,
  drainedSchema,
  drainSchema,
  memberIdSchema,
  nothingSchema,
  partitionDetailSchema,
  partitionSchema,
  pausedSchema,
  placedSchema,
  placeSchema,
  rebalancedSchema,
  rebalanceSchema,
  reconciliationsSchema,
  startedReconciliationSchema,
  startReconciliationSchema,
  statusSchema,
  tablesSchema,
  workersSchema,
} from './api-schemas.ts';
import type { Role } from './access.ts';
import { type ProblemKind, refused } from './problem.ts';
import type { Outcome, SupervisorControl } from './supervisor-control.ts';

/** One operation of the API. */
export interface ApiRoute {
  readonly method: 'GET' | 'POST' | 'PUT';
  /** As OpenAPI writes it: `/v1/partitions/{p}`. */
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly access: Role;
  readonly params: z.ZodObject;
  /** undefined for reads. */
  readonly body: z.ZodType | undefined;
  /** Of the answer when all goes well. */
  readonly status: 200 | 202;
  readonly response: z.ZodType;
  /** Whether a request asks for a change, and so is audited; left out, every body does. */
  isChange?(body: unknown): boolean;
  /** Beyond those that every operation may answer with. */
  readonly problems: readonly ProblemKind[];
  /** @throws HttpProblem | PipelineError */
  run(
    control: SupervisorControl,
    given: { readonly params: unknown; readonly body: unknown },
  ): Promise<unknown>;
}

const noParams = z.object({});

/** Ties the types of parameters and body to `run`. */
function route<
  Response extends z.ZodType,
  Params extends z.ZodObject = typeof noParams,
  Body extends z.ZodType = typeof nothingSchema,
>(
  definition: Pick<ApiRoute, 'method' | 'path' | 'operationId' | 'summary' | 'access'> & {
    readonly params?: Params;
    readonly body?: Body;
    readonly status?: 200 | 202;
    readonly response: Response;
    readonly problems?: readonly ProblemKind[];
    isChange?(body: z.output<Body>): boolean;
    run(
      control: SupervisorControl,
      given: { readonly params: z.output<Params>; readonly body: z.output<Body> },
    ): Promise<z.input<Response>>;
  },
): ApiRoute {
  const { params = noParams, body, status = 200, problems = [] } = definition;
  // The server parses what it hands to `run` with these very schemas.
  return { ...definition, params, body, status, problems } as ApiRoute;
}

/** The value, or the refusal thrown as a problem. */
function done<T>(outcome: Outcome<T>): T {
  if (outcome.kind !== 'done') throw refused(outcome);
  return outcome.value;
}

const inPath = z
  .string()
  .regex(/^\d{1,9}$/)
  .transform(Number)
  .pipe(partitionSchema);
const partitionParams = z.object({ p: inPath });
const workerParams = z.object({ id: memberIdSchema });

export const API_ROUTES: readonly ApiRoute[] = [
  route({
    method: 'GET',
    path: '/v1/status',
    operationId: 'getStatus',
    summary: 'The whole pipeline at this moment, with a verdict',
    access: 'viewer',
    response: statusSchema,
    run: (control) => control.status(),
  }),
  route({
    method: 'GET',
    path: '/v1/workers',
    operationId: 'listWorkers',
    summary: 'Live processes and what is placed on them',
    access: 'viewer',
    response: workersSchema,
    run: (control) => control.workers(),
  }),
  route({
    method: 'POST',
    path: '/v1/workers/{id}/drain',
    operationId: 'drainWorker',
    summary: 'Have a worker finish and give back its units, or take that back',
    access: 'operator',
    params: workerParams,
    body: drainSchema,
    status: 202,
    response: drainedSchema,
    problems: ['not-found'],
    run: async (control, { params, body }) => done(await control.drain(params.id, body.draining)),
  }),
  route({
    method: 'GET',
    path: '/v1/assignments',
    operationId: 'listAssignments',
    summary: 'Where every unit runs, planned and actual',
    access: 'viewer',
    response: assignmentsSchema,
    problems: ['unavailable'],
    run: (control) => control.assignments(),
  }),
  route({
    method: 'GET',
    path: '/v1/partitions/{p}',
    operationId: 'getPartition',
    summary: 'One partition with its placement and last commit',
    access: 'viewer',
    params: partitionParams,
    response: partitionDetailSchema,
    problems: ['not-found', 'unavailable'],
    run: async (control, { params }) => {
      const found = await control.partition(params.p);
      if (!found) throw refused({ kind: 'not-found', what: `partition ${params.p}` });
      return found;
    },
  }),
  route({
    method: 'PUT',
    path: '/v1/partitions/{p}/worker',
    operationId: 'placePartition',
    summary: 'Put a partition on a worker by hand, or let the supervisor choose again',
    access: 'operator',
    params: partitionParams,
    body: placeSchema,
    status: 202,
    response: placedSchema,
    problems: ['not-found', 'conflict'],
    run: async (control, { params, body }) =>
      done(await control.place(params.p, body.worker ?? undefined)),
  }),
  route({
    method: 'GET',
    path: '/v1/tables',
    operationId: 'listTables',
    summary: 'Every table at its newest version',
    access: 'viewer',
    response: tablesSchema,
    run: async (control) => ({ tables: [...(await control.tables())] }),
  }),
  route({
    method: 'GET',
    path: '/v1/reconciliations',
    operationId: 'listReconciliations',
    summary: 'Recent and due reconciliations of gold',
    access: 'viewer',
    response: reconciliationsSchema,
    problems: ['unavailable'],
    run: async (control) => ({ reconciliations: [...(await control.reconciliations())] }),
  }),
  route({
    method: 'POST',
    path: '/v1/reconciliations',
    operationId: 'startReconciliation',
    summary: 'Recompute a date of gold, or every date that needs it',
    access: 'operator',
    body: startReconciliationSchema,
    status: 202,
    response: startedReconciliationSchema,
    problems: ['conflict', 'not-supported'],
    run: async (control, { body }) => {
      const { dates } = done(await control.startReconciliation(body));
      return { dates: [...dates] };
    },
  }),
  route({
    method: 'POST',
    path: '/v1/rebalance',
    operationId: 'rebalance',
    summary: 'Spread the units over the workers, or say what that would move',
    access: 'operator',
    body: rebalanceSchema,
    response: rebalancedSchema,
    isChange: ({ dryRun }) => !dryRun,
    run: (control, { body }) => control.rebalance(body),
  }),
  route({
    method: 'POST',
    path: '/v1/pause',
    operationId: 'pause',
    summary: 'Take in no new records; what was fetched is committed',
    access: 'operator',
    body: nothingSchema,
    response: pausedSchema,
    run: (control) => control.setPaused(true),
  }),
  route({
    method: 'POST',
    path: '/v1/resume',
    operationId: 'resume',
    summary: 'Take in records again',
    access: 'operator',
    body: nothingSchema,
    response: pausedSchema,
    run: (control) => control.setPaused(false),
  }),
];

/** `/v1/partitions/:partition` of `/v1/partitions/{p}`. */
export function fastifyPath(path: string): string {
  return path.replace(/\{(\w+)\}/g, ':$1');
}
