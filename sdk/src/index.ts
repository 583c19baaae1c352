/**
 * Client for an Atoll operator, for Node 20 and later and for browsers.
 *
 *     const atoll = new Atoll({ url: 'http://127.0.0.1:9090', apiKey: '…' })
 *     await using sandbox = await atoll.sandboxes.create()
 *     const { stdout } = await sandbox.run('echo hello')
 *
 * What an operator refuses is a `Failure` with a stable `code`; an operator that cannot be reached is a `ConnectionFailure`. Options are
 * ours and camelCase; records (`info`, file entries, events) are passed on as they are on the wire.
 */
export type {
  AgentEvent,
  AgentRun as AgentRunInfo,
  AgentSession,
  ApiKey,
  AuditEntry,
  EgressBinding,
  EgressRule,
  ExecResult,
  Exit,
  FailureCode,
  FileEntry,
  PermissionDecision,
  Process as ProcessInfo,
  ProcessEvent,
  ProviderKey,
  Provision,
  RuntimeName,
  Sandbox as SandboxInfo,
  SandboxEgress,
  SandboxEvent,
  SandboxHarness,
  SandboxStatus,
  Service,
  Snapshot as SnapshotInfo,
  Terminal as TerminalInfo,
  UsageRow,
  WatchEvent,
} from '@atoll/protocol'
export { exitNumber, Failure } from '@atoll/protocol'
export type { AgentRun, Agents, FollowAgentOptions, PromptOptions, StartAgentOptions } from './agents.ts'
export { Atoll, type AtollOptions, type Capabilities, type UsageOptions } from './atoll.ts'
export type { Audit, AuditAnchor, AuditListOptions, AuditVerdict } from './audit.ts'
export type { AuditProblem } from './audit-chain.ts'
export type { Fetch } from './connection.ts'
export { ConnectionFailure } from './connection-failure.ts'
export type { Egress, EgressBindingOptions, EgressOptions, EgressRuleOptions } from './egress.ts'
export type { FileSource, Files, ReadRange } from './files.ts'
export type { CreateKeyOptions, Keys } from './keys.ts'
export type { Ports, PreviewLink } from './ports.ts'
export type { FollowProcessOptions, Process, ProcessEnd, ProcessOutput, SignalName } from './process.ts'
export type { Command, Processes, StartOptions } from './processes.ts'
export type { RunOptions, RunResult, StdinSource } from './run.ts'
export type { EventsOptions, ExecOptions, Sandbox, SandboxUpdate } from './sandbox.ts'
export type { SandboxSpec } from './sandbox-spec.ts'
export type { CreateOptions, ListOptions, Sandboxes } from './sandboxes.ts'
export type { Secrets } from './secrets.ts'
export type {
  CreateServiceOptions,
  ProviderKeyOptions,
  ProviderKeys,
  Quotas,
  ServiceChange,
  ServiceReference,
  Services,
} from './services.ts'
export type { ListSnapshotsOptions, SnapshotOptions, Snapshots } from './snapshots.ts'
export type { FollowTerminalOptions, OpenTerminalOptions, Terminal, TerminalOutput, Terminals } from './terminals.ts'
