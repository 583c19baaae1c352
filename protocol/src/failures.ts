/** Every failure that crosses a border of Atoll: its stable code, its HTTP status, and what it means. */
export const failureTable = {
  'auth.missing': [401, 'The request carries no credential.'],
  'auth.invalid': [401, 'The credential is malformed, expired or revoked.'],
  'auth.challenge_invalid': [401, 'The challenge is unknown, used or expired, or the signature does not match it.'],
  'auth.forbidden': [403, 'The credential does not allow this.'],
  'auth.too_many_challenges': [503, 'Too many sign-ins are pending from this address or in all.'],
  'request.invalid': [400, 'The request does not fit the schema.'],
  'request.invalid_json': [400, 'The body is not JSON.'],
  'request.content_type': [415, 'The body has the wrong content type.'],
  'request.too_large': [413, 'The body is larger than this route takes.'],
  'request.timeout': [408, 'The request was not complete in time.'],
  'request.busy': [503, 'The operator serves as many requests as it may.'],
  'store.unavailable': [503, 'The state of the operator cannot be written, as on a full disk.'],
  'request.rate_limited': [429, 'Too many requests of this kind.'],
  'request.host_refused': [403, 'The Host or Origin header is not one of this operator.'],
  'route.not_found': [404, 'No such route.'],
  'route.method': [405, 'The path exists, the method does not.'],
  'sandbox.not_found': [404, 'No such sandbox belongs to the caller.'],
  'sandbox.not_running': [409, 'The operation needs a running sandbox.'],
  'sandbox.ambiguous': [409, 'The caller has several sandboxes, so one must be named.'],
  'sandbox.busy': [409, 'Another operation on this sandbox is under way.'],
  'sandbox.ended': [409, 'The sandbox has ended.'],
  'sandbox.too_large': [400, 'The size asked for is above what this operator gives to one sandbox.'],
  'sandbox.start_failed': [502, 'The sandbox was made and did not start.'],
  'sandbox.unreachable': [503, 'The sandbox does not answer.'],
  'snapshot.not_found': [404, 'No such snapshot belongs to the caller.'],
  'snapshot.not_ready': [409, 'The snapshot is still being made, or could not be.'],
  'snapshot.interrupted': [503, 'The making of the snapshot was cut off.'],
  'snapshot.damaged': [409, "The snapshot's file is not what was written."],
  'snapshot.newer_format': [409, 'The snapshot was written by a newer version of the operator.'],
  'snapshot.too_many': [429, 'The owner has as many snapshots as may be.'],
  'idempotency.mismatch': [422, 'The Idempotency-Key was used with another body.'],
  'capacity.exhausted': [503, 'The operator has no room for another sandbox.'],
  'capacity.quota': [429, 'The service has as much as its quotas allow.'],
  'capacity.queue_full': [503, 'Too many creations are waiting.'],
  'runtime.unknown': [400, 'No such runtime.'],
  'runtime.unavailable': [503, 'The runtime does not work on this machine, or does not answer.'],
  'runtime.unsupported': [501, 'The runtime cannot do this.'],
  'image.not_found': [400, 'The image is not on this machine and cannot be fetched.'],
  'image.not_allowed': [403, 'This operator runs no such image.'],
  'image.unsupported': [400, 'The image cannot run here: not Linux, another processor, or no glibc.'],
  'image.no_shell': [400, 'The image has no shell, so a command must be given as argv.'],
  'provision.not_found': [404, 'No such provision.'],
  'process.not_found': [404, 'No such process in this sandbox.'],
  'process.ended': [409, 'The process has ended.'],
  'process.too_many': [429, 'The sandbox runs as many processes as it may.'],
  'process.spawn_failed': [503, 'The sandbox could not start the process.'],
  'exec.timeout': [504, 'The command did not end in time and was killed.'],
  'terminal.not_found': [404, 'No such terminal session.'],
  'terminal.ended': [409, 'The terminal session has ended.'],
  'terminal.too_many': [429, 'The sandbox has as many terminals as it may.'],
  'file.not_found': [404, 'No such file or directory.'],
  'file.exists': [409, 'The path exists already.'],
  'file.not_a_directory': [409, 'The path is not a directory.'],
  'file.is_a_directory': [409, 'The path is a directory.'],
  'file.not_empty': [409, 'The directory is not empty.'],
  'file.outside': [400, 'The path leaves the places that files may be in.'],
  'file.invalid_path': [400, 'The path is empty, too long or holds a NUL byte.'],
  'file.permission': [403, 'The sandbox user may not do this to the file.'],
  'file.disk_full': [507, "The sandbox's disk is full."],
  'file.range': [416, 'The range lies outside the file.'],
  'port.invalid': [400, 'The port is not a number from 1 to 65535.'],
  'port.not_exposed': [404, 'The port was not asked for when the sandbox was made.'],
  'port.closed': [502, 'Nothing listens on the port in the sandbox.'],
  'port.bad_path': [400, 'The path cannot be passed on.'],
  'port.timeout': [504, 'The program behind the port did not answer in time.'],
  'port.token_invalid': [401, 'The preview link is forged, expired or for another port.'],
  'agent.harness_unknown': [400, 'No harness has this name.'],
  'agent.harness_missing': [409, 'The harness is not in the image of this sandbox.'],
  'agent.no_credentials': [402, 'No credential for a model is set.'],
  'agent.session_not_found': [404, 'No such conversation in this sandbox.'],
  'agent.run_not_found': [404, 'No such run in this sandbox.'],
  'agent.run_active': [409, 'The conversation has a run that is not over.'],
  'agent.run_not_active': [409, 'The run is over, or has not begun.'],
  'agent.too_many_runs': [429, 'As many runs wait in the conversation as may.'],
  'agent.permission_not_found': [404, 'The run asks no such question, or it was answered.'],
  'agent.history_unreadable': [503, 'What agents did in the stopped sandbox cannot be read from its files.'],
  'sidecar.too_old': [501, 'The sandbox was made with an older sidecar that cannot do this.'],
  'secret.invalid': [400, 'The secrets do not fit the rules.'],
  'key.not_found': [404, 'No such API key.'],
  'service.not_found': [404, 'No such service belongs to the caller, or has the caller as a member.'],
  'service.in_use': [409, 'The service has sandboxes.'],
  'provider.unknown': [400, 'No provider has this name.'],
  'provider.invalid': [400, 'The settings of the provider do not fit the rules.'],
  'provider.no_key': [404, 'The service has no key of this provider.'],
  'provider.key_missing': [402, 'A sandbox asked a provider of which its service has no key.'],
  'provider.login_expired': [402, 'The login at the provider cannot be refreshed any more.'],
  'provider.path_refused': [403, 'Sandboxes may not ask this of the provider.'],
  'provider.model_refused': [403, 'The service does not allow this model.'],
  'provider.unreachable': [502, 'The provider does not answer.'],
  'budget.spent': [402, 'The service has used what its quotas allow for today.'],
  'budget.unpriced': [402, 'The service has a limit of spend, and the model has no price.'],
  'gateway.unavailable': [503, 'The operator does not answer the sandbox.'],
  'egress.denied': [403, 'The sandbox may not reach this.'],
  'upstream.not_public': [403, 'The address is not one of the public internet.'],
  'upstream.unresolved': [502, 'The name cannot be resolved.'],
  'upstream.unreachable': [502, 'The address does not answer.'],
  'event.gone': [410, 'The cursor points before the oldest event that is kept.'],
  'config.invalid': [500, 'A setting is wrong.'],
  internal: [500, 'An unexpected failure; the operator log has it under the request id.'],
} as const satisfies Record<string, readonly [status: number, meaning: string]>

export type FailureCode = keyof typeof failureTable

export const isFailureCode = (code: unknown): code is FailureCode => typeof code === 'string' && Object.hasOwn(failureTable, code)

export interface FailureOptions {
  readonly cause?: unknown
  /** Milliseconds after which the same call may succeed. */
  readonly retryAfterMs?: number
  /** Answered instead of the code's usual status. */
  readonly status?: number
}

/** The one error of Atoll: what happened, to what, and what the reader can do, under a stable code. */
export class Failure extends Error {
  readonly code: FailureCode
  readonly status: number
  readonly retryAfterMs: number | undefined

  constructor(code: FailureCode, message: string, options: FailureOptions = {}) {
    super(message, { cause: options.cause })
    this.name = 'Failure'
    this.code = code
    this.status = options.status ?? failureTable[code][0]
    this.retryAfterMs = options.retryAfterMs
  }

  /** The body that every failing route answers. */
  toJSON(): FailureBody {
    return {
      error: this.message,
      code: this.code,
      ...(this.retryAfterMs !== undefined && { retry_after_ms: this.retryAfterMs }),
    }
  }
}

export interface FailureBody {
  readonly error: string
  readonly code?: string
  readonly retry_after_ms?: number
}

/** The Failure in anything thrown; what is not one becomes `internal` and keeps its cause. */
export const toFailure = (thrown: unknown): Failure =>
  thrown instanceof Failure
    ? thrown
    : new Failure('internal', 'The operator failed unexpectedly; its log has the reason under the request id of this answer.', {
        cause: thrown,
      })
