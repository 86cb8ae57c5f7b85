"""Only the mask of the shipped FVAE, narrower."""
import sys; sys.path.insert(0,'.')
import torch, time
from pathlib import Path
from dataclasses import replace, asdict
from facelab import recipes
from facelab.blocks import load_weights, save_weights, shipped
from facelab.blocks.weights import made
from facelab.papers import fvae
old=load_weights(fvae.Model,fvae.Config,Path('facelab/weights/fvae.safetensors'))
told=made(Path('facelab/weights/fvae.safetensors')); print(told)
r=recipes.RECIPES['fvae']
torch.manual_seed(r.seed)
new=fvae.Model(replace(old.config,mask_width=1/3))
state={k:v for k,v in old.state_dict().items() if not k.startswith('mask.')}
print(new.load_state_dict(state,strict=False))
faces=recipes._cached(r,r.faces,0)
new.prepare(faces)
t=time.time()
recipes._finish_fvae(new,faces,r,out=Path('.'),resume=False,progress=True)
same=all(torch.allclose(new.state_dict()[k].float(),old.state_dict()[k].float(),atol=2e-3) for k in state)
print('same',same, {k:(new.state_dict()[k]-old.state_dict()[k]).abs().max().item() for k in ('places',)}, time.time()-t)
save_weights(new,Path('..safetensors'),told|{"seconds":(21+76)*60+round(time.time()-t)})
