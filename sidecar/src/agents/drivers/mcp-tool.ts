// A call of a tool of an MCP server that is a program.
import type { McpServer } from '@atoll/protocol'
import type { TurnContext } from '../harness.ts'
import { list, record, text } from './json.ts'
import { JsonLines } from './json-lines.ts'
import { JsonRpc } from './json-rpc.ts'

export interface McpToolResult {
  /** What the server calls the tool. */
  readonly tool: string
  readonly output: string
  readonly isError: boolean
}

/**
 * Starts the server as the sandbox user, calls its first tool with `{ text }`, and lets it end.
 * @throws RpcError when the server ends or refuses; Failure as `TurnContext.spawn`
 */
export async function callFirstTool(
  context: TurnContext,
  server: Extract<McpServer, { command: string }>,
  said: string,
): Promise<McpToolResult> {
  const program = await JsonLines.start(context, { argv: [server.command, ...server.args], env: server.env })
  try {
    const handlers = { notified: () => undefined, requested: async () => undefined }
    const rpc = new JsonRpc(program, handlers, { jsonrpc: '2.0' })
    const clientInfo = { name: 'echo', version: '1' }
    await rpc.request('initialize', { protocolVersion: '2025-06-18', capabilities: {}, clientInfo })
    rpc.notify('notifications/initialized', {})
    const { tools } = await rpc.request('tools/list', {})
    const tool = text(record(list(tools)[0])['name'])
    const result = await rpc.request('tools/call', { name: tool, arguments: { text: said } })
    const output = list(result['content']).map((part) => text(record(part)['text']))
    return { tool, output: output.join('\n'), isError: result['isError'] === true }
  } finally {
    program.endInput()
  }
}
