// All the code of agents beside what there is to look at. It stands beside the bundle, and is read when it is wanted.
import { Agents, type AgentsParts } from './agents.ts'
import { registry } from './registry.ts'

export const createAgents = (parts: Omit<AgentsParts, 'registry'>): Agents => new Agents({ ...parts, registry })
