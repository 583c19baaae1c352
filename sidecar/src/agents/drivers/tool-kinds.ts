import type { ToolKind } from '@atoll/protocol'

const kinds: Readonly<Record<string, ToolKind>> = {
  bash: 'shell',
  run_shell_command: 'shell',
  edit: 'edit',
  multiedit: 'edit',
  patch: 'edit',
  apply_patch: 'edit',
  replace: 'edit',
  write: 'edit',
  write_file: 'edit',
  list_directory: 'read',
  read: 'read',
  readmediafile: 'read',
  read_file: 'read',
  read_many_files: 'read',
  glob: 'search',
  google_web_search: 'search',
  grep: 'search',
  grep_search: 'search',
  websearch: 'search',
  fetchurl: 'fetch',
  web_fetch: 'fetch',
  webfetch: 'fetch',
  agent: 'subagent',
  agentswarm: 'subagent',
  invoke_agent: 'subagent',
  task: 'subagent',
  activate_skill: 'skill',
  skill: 'skill',
  todolist: 'todo',
  todoread: 'todo',
  todowrite: 'todo',
  write_todos: 'todo',
}

/** Of a tool as its harness calls it, `servers` being the names of the MCP servers of the turn. Undefined: the name tells nothing. */
export function toolKind(name: string, servers: readonly string[] = []): ToolKind | undefined {
  if (name.startsWith('mcp_') || servers.some((server) => name.startsWith(`${server}_`))) return 'mcp'
  return kinds[name.toLowerCase()]
}
