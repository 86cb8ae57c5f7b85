import json, re
p='./notebooks/00_tour.ipynb'
nb=json.load(open(p))
cells=nb['cells']
def src(c): return ''.join(c['source'])
def put(c,s): c['source']=s.splitlines(keepends=True)
def rep(i,a,b,n=1):
    s=src(cells[i]); assert s.count(a)==n,(i,a,s.count(a)); put(cells[i],s.replace(a,b))
opening=open('.00_open.txt').read()
parts=re.split(r'^%% (md|code.*)\n',opening,flags=re.M)[1:]
new=[]
for kind,body in zip(parts[::2],parts[1::2]):
    body=body.rstrip('\n')
    c={'cell_type':'markdown' if kind=='md' else 'code','metadata':{},'source':body.splitlines(keepends=True)}
    if kind!='md': c|={'execution_count':None,'outputs':[]}
    new.append(c)
rep(0,'see what this course does and where everything is; meet','see five papers act on one face, and where everything is; meet')
rep(3,'''## Nobody you know
These people were made a moment ago''','''## Nobody you know
He and these people were made a moment ago''')
rep(4,'world = FaceWorld(seed)\n','')
rep(7,', and a room may only use rooms to its left. Dashed rooms arrive with the notebook that derives them.',', and a room may only use rooms to its left.')
rep(32,'''landed = {path.stem for path in course.notebooks(course.NOTEBOOKS)}
here, to_come = "| [{0}]({0}.ipynb) | {1} | **here** |", "| {0} | {1} | to come |"
rows = [(here if name in landed else to_come).format(name, adds) for name, adds in plan.items()]
assert {"00_tour", "01_faces_in_numbers"} <= landed <= set(plan)
Markdown("\\n".join(["| notebook | what it adds | |", "|---|---|---|", *rows]))''','''assert list(plan) == [path.stem for path in course.notebooks(course.NOTEBOOKS)]
Markdown("\\n".join(["| notebook | what it adds |", "|---|---|", *(f"| [{name}]({name}.ipynb) | {adds} |" for name, adds in plan.items())]))''')
i8=next(i for i,c in enumerate(cells) if src(c).startswith('plan = {\n    "core"'))
put(cells[i8],'''plan = {
    "core": ["errors", "folders"], "geometry": [], "faces": [], "blocks, …": ["blocks", "probability", "adversarial"], "papers": [],
    "training": ["fit"], "evaluation": [], "show": [], "course": ["course, cli", "book, doctor", "recipes"],
}
house = Path(facelab.__file__).parent
inside = {name: [module.name for module in iter_modules([str(house / name)])] for name in plan}  # what is really there
assert {module.name for module in iter_modules([str(house)]) if module.ispkg} <= {*plan, *plan["blocks, …"]}
_ = show.house([(name, inside[name] or contents) for name, contents in plan.items()])''')
cells[3:3]=new
for i,c in enumerate(cells): c['id']=f"00-{i:03d}"
json.dump(nb,open(p,'w'),indent=1,ensure_ascii=False); open(p,'a').write('\n')
