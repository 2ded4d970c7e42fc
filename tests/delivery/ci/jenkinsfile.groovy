// Runs a declarative Jenkinsfile with Groovy itself. Each section knows its own directives and no others, so that a
// misspelt one ends the run; `sh` runs bash. Arguments: the file, the folder, then NAME=VALUE for the environment; after
// NEXT the next run. Each run prints RESULT and a JSON object.
import groovy.json.JsonOutput

class Refused extends RuntimeException { Refused(String what) { super(what) } }

class Section {
    Map run
    def enter(Closure body, Object section) {
        body.delegate = section
        body.resolveStrategy = Closure.DELEGATE_FIRST
        body.call()
    }
    def methodMissing(String name, Object arguments) { throw new Refused("${this.class.simpleName} has no ${name}") }
}

class Options extends Section {
    def timeout(Map named) { assert named.time instanceof Integer && named.unit in ['SECONDS', 'MINUTES', 'HOURS'] }
    def disableConcurrentBuilds() { run.locked = true }
}

class Environment extends Section {
    Map target
    def getEnv() { run.environment }
    def credentials(String id) {
        if (!run.credentials.containsKey(id)) throw new Refused("no credentials ${id}")
        run.credentials[id]
    }
    void setProperty(String name, Object value) {
        if (name in ['run', 'target']) { this.@"$name" = value } else { target[name] = value.toString() }
    }
}

class Steps extends Section {
    Map own = [:]
    def getEnv() { run.environment }
    def sh(String line) {
        def all = (System.getenv() + run.environment + own).collect { name, value -> "${name}=${value}".toString() }
        def process = ['bash', '-ec', line].execute(all, run.folder)
        process.waitForProcessOutput(System.out, System.err)
        run.lines << line
        if (process.exitValue()) throw new RuntimeException("script returned exit code ${process.exitValue()}")
    }
    def echo(Object text) { println text }
    def script(Closure body) { enter(body, this) }
    def input(Map named) {
        if (!run.approver) throw new RuntimeException('nobody approved')
        assert named.submitterParameter
        run.approver
    }
    def junit(Map named) { run.reports << named.testResults }
    def archiveArtifacts(Map named) { run.kept << named.artifacts }
}

class When extends Section {
    boolean holds = true
    def branch(String name) { holds = holds && run.environment.BRANCH_NAME == name }
}

class Post extends Section {
    boolean isGood
    def always(Closure body) { enter(body, new Steps(run: run)) }
    def success(Closure body) { if (isGood) enter(body, new Steps(run: run)) }
    def failure(Closure body) { if (!isGood) { run.failures << 'failure'; enter(body, new Steps(run: run)) } }
}

class Stage extends Section {
    String name
    Map own = [:]
    boolean holds = true
    Closure body
    def when(Closure condition) { def it = new When(run: run); enter(condition, it); holds = it.holds }
    def environment(Closure names) { enter(names, new Environment(run: run, target: own)) }
    def steps(Closure given) { body = given }
    def carryOut() {
        if (!body) throw new Refused("stage ${name} has no steps")
        if (!holds) { run.states[name] = 'skipped'; return }
        run.states[name] = 'failed'
        enter(body, new Steps(run: run, own: own))
        run.states[name] = 'passed'
    }
}

class Stages extends Section {
    def stage(String name, Closure body) {
        def it = new Stage(run: run, name: name)
        enter(body, it)
        it.carryOut()
    }
}

class Pipeline extends Section {
    Closure stagesBody, postBody
    def getAny() { 'any' }
    def agent(Object which) { assert which == 'any' }
    def options(Closure body) { enter(body, new Options(run: run)) }
    def environment(Closure body) { enter(body, new Environment(run: run, target: run.environment)) }
    def stages(Closure body) { stagesBody = body }
    def post(Closure body) { postBody = body }
    def carryOut() {
        boolean isGood = false
        try {
            if (!stagesBody) throw new Refused('no stages')
            enter(stagesBody, new Stages(run: run))
            isGood = true
        } finally {
            if (postBody) enter(postBody, new Post(run: run, isGood: isGood))
        }
    }
}

def carriedOut(String file, String folder, List<String> words) {
    def given = words.collectEntries { it.split('=', 2) as List }
    def secrets = given.findAll { it.key.startsWith('SECRET_') }.collectEntries { [it.key.substring(7), it.value] }
    def run = [environment: [WORKSPACE: folder, PATH: System.getenv('PATH')] + given, credentials: secrets, states: [:],
               folder: new File(folder), lines: [], reports: [], kept: [], failures: [], approver: given.APPROVER]
    def refused = null
    def shell = new GroovyShell(new Binding([pipeline: { Closure body ->
        def it = new Pipeline(run: run)
        it.enter(body, it)
        it.carryOut()
    }]))
    try {
        shell.evaluate(new File(file))
    } catch (Throwable error) {
        refused = "${error.class.simpleName}: ${error.message}".toString()
    }
    println 'RESULT ' + JsonOutput.toJson([states: run.states, lines: run.lines, post: run.failures,
                                           reports: run.reports, error: refused, locked: run.locked ?: false])
}

def runs = [[]]
args.each { if (it == 'NEXT') { runs << [] } else { runs[-1] << it } }
runs.each { carriedOut(it[0], it[1], it.drop(2)) }
