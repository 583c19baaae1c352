// Everything public of the protocol.
import { agentRoutes } from './agents.ts'
import { auditRoutes } from './audit.ts'
import { authRoutes } from './auth.ts'
import { chatRoutes } from './chat.ts'
import { egressRoutes } from './egress.ts'
import { eventRoutes } from './events.ts'
import { fileRoutes } from './files.ts'
import { healthRoutes } from './health.ts'
import { portRoutes } from './ports.ts'
import { processRoutes } from './processes.ts'
import { sandboxRoutes } from './sandboxes.ts'
import { secretRoutes } from './secrets.ts'
import { serviceRoutes } from './services.ts'
import { snapshotRoutes } from './snapshots.ts'
import { terminalRoutes } from './terminals.ts'
import { usageRoutes } from './usage.ts'

export {
  AgentError,
  type AgentErrorCode,
  AgentEvent,
  agentErrorCodes,
  PermissionDecision,
  permissionDecisions,
  RunOutcome,
  ToolKind,
  Usage,
} from './agent-events.ts'
export { AgentRun, AgentSession, agentRoutes, HarnessId, McpServer, SandboxHarness, StartRun, type StartRunInput } from './agents.ts'
export { type AuditDetail, AuditEntry, AuditHead, auditGenesis, auditRoutes, auditText, auditVias } from './audit.ts'
export { type AuditAction, auditActions } from './audit-actions.ts'
export { ApiKey, authRoutes, keyScopes } from './auth.ts'
export { ChatMessage, ChatPart, ChatProgress, ChatRun, chatRoutes } from './chat.ts'
export {
  EgressBinding,
  type EgressDenial,
  EgressPathPrefix,
  EgressPolicy,
  type EgressPolicyInput,
  EgressRule,
  egressDenials,
  egressMethods,
  egressModes,
  egressPresets,
  egressRoutes,
  SandboxEgress,
} from './egress.ts'
export { eventRoutes, Provision, SandboxEvent } from './events.ts'
export { Exit, exitNumber } from './exit.ts'
export { Failure, type FailureBody, type FailureCode, type FailureOptions, failureTable, isFailureCode, toFailure } from './failures.ts'
export { FileEntry, fileRoutes, WatchEvent } from './files.ts'
export { healthRoutes, ImageProbe, LimitSupport, RuntimeProbe } from './health.ts'
export { PreviewLink, portProxyPaths, portRoutes, portText } from './ports.ts'
export { ExecRequest, ExecResult, Process, ProcessEvent, processRoutes, StartProcess, signalNames } from './processes.ts'
export {
  type Access,
  type RateTier,
  type Route,
  type RouteInput,
  type RouteOutput,
  type RouteRequest,
  routePath,
  type Stream,
  singletonPath,
} from './route.ts'
export {
  CreateSandbox,
  type CreateSandboxInput,
  EndReason,
  Environment,
  idleActions,
  ListQuery,
  Metadata,
  RuntimeName,
  runtimeNames,
  Sandbox,
  SandboxStatus,
  sandboxRoutes,
  sandboxStates,
} from './sandboxes.ts'
export { secretRoutes } from './secrets.ts'
export { ProviderKey, Service, ServiceQuotas, serviceModes, serviceRoutes } from './services.ts'
export { ForkSandbox, Snapshot, snapshotRoutes, snapshotStates } from './snapshots.ts'
export { OpenTerminal, Terminal, TerminalEvent, TerminalSize, terminalProtocol, terminalRoutes } from './terminals.ts'
export { UsageRow, usageDimensions, usageRoutes } from './usage.ts'

/** Every route of the native API, by subject. */
export const routes = {
  health: healthRoutes,
  auth: authRoutes,
  sandboxes: sandboxRoutes,
  snapshots: snapshotRoutes,
  processes: processRoutes,
  terminals: terminalRoutes,
  files: fileRoutes,
  ports: portRoutes,
  secrets: secretRoutes,
  services: serviceRoutes,
  usage: usageRoutes,
  egress: egressRoutes,
  audit: auditRoutes,
  events: eventRoutes,
  agents: agentRoutes,
  chats: chatRoutes,
} as const
